package codebook

import "fmt"

// MaxSamples bounds the size of a sound that is made.
const MaxSamples = 1 << 28

// Sound is a stretch of sampled sound.
type Sound struct {
	Rate     int       // samples a second in each channel
	Channels int       // 1 or more
	Samples  []float32 // in [-1, 1], the channels of one moment next to each other
}

// encodeSound cuts a sound into frames, the last one filled up with silence.
func (c *Codebook) encodeSound(content any) ([]int, error) {
	var s *Sound
	switch v := content.(type) {
	case *Sound:
		s = v
	case []byte:
		var err error
		if s, err = ReadWAV(v); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("a sound is a %T, want a *codebook.Sound or the []byte of a WAV file", content)
	}
	if s.Rate != c.SampleRate {
		return nil, fmt.Errorf("the sound has %d samples a second, want %d, as the codebook; resample it first (ffmpeg -i in.wav -ar %d out.wav)", s.Rate, c.SampleRate, c.SampleRate)
	}
	x, err := s.mix(c.Channels)
	if err != nil {
		return nil, err
	}
	x = append(x, make([]float32, (c.Dim-len(x)%c.Dim)%c.Dim)...)
	return c.assign(x)
}

// mix returns a copy of the samples for a number of channels: one from several by
// their mean, several from one by repeating it.
func (s *Sound) mix(channels int) ([]float32, error) {
	if s.Channels < 1 || len(s.Samples)%s.Channels != 0 {
		return nil, fmt.Errorf("%d samples in %d channels, want 1 or more channels, and samples for all of them", len(s.Samples), s.Channels)
	}
	if s.Channels != channels && s.Channels != 1 && channels != 1 {
		return nil, fmt.Errorf("the sound has %d channels, want %d, as the codebook, or 1", s.Channels, channels)
	}
	if s.Channels == channels {
		return append([]float32(nil), s.Samples...), nil
	}
	moments := len(s.Samples) / s.Channels
	out := make([]float32, 0, moments*channels)
	for i := range moments {
		var sum float32
		for _, v := range s.Samples[i*s.Channels : (i+1)*s.Channels] {
			sum += v
		}
		sum /= float32(s.Channels)
		for range channels {
			out = append(out, sum)
		}
	}
	return out, nil
}

// decodeSound puts the frames of codes one after the other.
func (c *Codebook) decodeSound(codes []int) (*Sound, error) {
	if len(codes) > MaxSamples/c.Dim {
		return nil, fmt.Errorf("%d frames of %d samples, want at most %d samples in all", len(codes), c.Dim, MaxSamples)
	}
	s := &Sound{Rate: c.SampleRate, Channels: c.Channels, Samples: make([]float32, len(codes)*c.Dim)}
	for i, code := range codes {
		c.vector(s.Samples[i*c.Dim:(i+1)*c.Dim], code)
	}
	return s, nil
}
