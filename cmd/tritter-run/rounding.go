package main

import (
	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/nearest"
	"github.com/tritter-ai/tritter/runtime"
)

// roundingFlags say how hidden states become tokens.
type roundingFlags struct {
	Rounding    string `help:"How a hidden state becomes a token: logits (the head), knn (the nearest rows of the embedding matrix) or vq (the nearest code of the file's codebook of hidden states)." enum:"logits,knn,vq" default:"logits"`
	LatentSteps int    `help:"Before each token, feed the hidden state back this many times without rounding." placeholder:"N"`
	KNNK        *int   `name:"knn-k" help:"With --rounding knn or vq: draw among this many nearest rows, at --temperature (default: 1, the nearest)." placeholder:"K"`
	KNNMetric   string `name:"knn-metric" help:"With --rounding knn: cosine or euclidean (default: cosine)." enum:",cosine,euclidean" default:""`
}

// apply completes a request whose sampling is set.
func (f *roundingFlags) apply(e runtime.Engine, r *runtime.TextRequest) error {
	if f.LatentSteps < 0 {
		return cli.Usage("--latent-steps wants 0 or more, got %d", f.LatentSteps)
	}
	r.LatentSteps = f.LatentSteps
	rounding := runtime.Rounding(f.Rounding)
	if rounding == runtime.RoundLogits {
		if f.KNNK != nil || f.KNNMetric != "" {
			return cli.Usage("--knn-k and --knn-metric go with --rounding knn; add it")
		}
		return nil
	}
	opt := runtime.RounderOptions{Rounding: rounding, K: *first(f.KNNK, new(1)), Temperature: r.Sampling.Temperature}
	if opt.K < 1 {
		return cli.Usage("--knn-k wants at least 1, got %d", opt.K)
	}
	if f.KNNMetric != "" {
		if rounding == runtime.RoundVQ {
			return cli.Usage("--knn-metric goes with --rounding knn: codes are nearest by Euclidean distance")
		}
		var err error
		if opt.Metric, err = nearest.ParseMetric(f.KNNMetric); err != nil {
			return err
		}
	}
	var err error
	r.Rounder, err = runtime.NewEmbeddingRounder(e, opt)
	return err
}
