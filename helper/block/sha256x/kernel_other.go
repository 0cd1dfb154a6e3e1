//go:build !amd64

package sha256x

var kernels []kernel
