//go:build !(amd64 || arm64) || purego

package cpu

import "github.com/tritter-ai/tritter/kernels"

func native() []kernels.Ops { return nil }
