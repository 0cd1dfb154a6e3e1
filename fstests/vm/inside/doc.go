// Package inside holds the tests that run in the virtual machine of fstests/vm. They have the build tag vm, since
// they would make and destroy devices of the machine they run on.
package inside
