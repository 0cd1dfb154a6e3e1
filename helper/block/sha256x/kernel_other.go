//go:build !amd64 && !arm64

package sha256x

var kernels []kernel
