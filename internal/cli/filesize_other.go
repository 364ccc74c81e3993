//go:build !unix

package cli

func ignoreFileSize() {}
