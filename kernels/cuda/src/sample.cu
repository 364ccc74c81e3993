// The next token from the logits of one position (spec/numerics.md section 15). Weights are integers, so that their
// sums do not depend on the order in which threads add them, and the order of candidates is found digit by digit from
// sums over bins rather than by sorting.
#include "numerics.cuh"

// Settings are those of the request; zero values turn top_k and min_p off, and a temperature of zero is greedy.
struct Settings {
  float penalty, temperature;
  u32 top_k, unused;
  double top_p, min_p;
  u64 seed;
};

// ordered maps logits to integers of the same order, and logit_of maps them back. Both zeros become +0.
FN u32 ordered(float l) {
  const u32 u = bits(l == 0 ? 0.0f : l);
  return u & 0x80000000 ? ~u : u | 0x80000000;
}
FN float logit_of(u32 key) { return from_bits(key & 0x80000000 ? key & kMagnitude : ~key); }

// image orders candidates: by descending logit, those of equal logit by ascending index.
FN u64 image(u32 key, u32 i) { return (u64)key << 32 | (0xffffffff - i); }

// weight is floor(e * 2^40) for 0 <= e <= 1.
FN u64 weight_of(float e) { return (u64)((double)e * 0x1p40); }

FN u64 warp_sum(u64 v) {
  for (u32 w = 16; w > 0; w /= 2) v += (u64)shuffle_xor((u32)(v >> 32), w) << 32 | shuffle_xor((u32)v, w);
  return v;
}

// adjust_logits applies penalty and temperature to n logits: keys become their ordered images, and best the image of the
// first candidate. seen has a bit for each token that the penalty is for.
KERNEL(adjust_logits, u32* keys, u64* best, const float* logits, u32 n, const u32* seen, const Settings* settings, u32* bad, u32 site) {
  await_grid();
  release_grid();
  const float penalty = settings->penalty, temperature = settings->temperature;
  u64 top = 0;
  bool ok = true;
  for (u32 i = block_x() * threads() + thread(); i < n; i += blocks_x() * threads()) {
    float l = logits[i];
    ok = ok && finite(l);
    if (penalty != 1 && seen[i / 32] >> (i % 32) & 1) l = l > 0 ? div32(l, penalty) : mul32(l, penalty);
    if (temperature != 0) l = div32(l, temperature);
    ok = ok && finite(l);
    const u32 key = ordered(l);
    keys[i] = key;
    top = image(key, i) > top ? image(key, i) : top;
  }
  if (!ok) atomic_min(bad, site);
  for (u32 w = 16; w > 0; w /= 2) {
    const u64 other = (u64)shuffle_xor((u32)(top >> 32), w) << 32 | shuffle_xor((u32)top, w);
    top = other > top ? other : top;
  }
  if (lane() == 0) atomic_max(best, top);
}

// weigh_candidates computes e of every candidate.
KERNEL(weigh_candidates, float* e, const u32* keys, const u64* best, u32 n) {
  await_grid();
  release_grid();
  const float top = logit_of(*best >> 32);
  for (u32 i = block_x() * threads() + thread(); i < n; i += blocks_x() * threads()) e[i] = exp32(sub32(logit_of(keys[i]), top));
}

enum : u32 { kChoosers = 1024, kBins = 2048 };

// Candidates are those that survive so far: down to the image `least_image`, with an e of min_p or the first of all.
struct Candidates {
  const u32* keys;
  const float* e;
  u32 n;
  u64 first, least_image;
  double min_p;
};

FN bool survives(const Candidates& c, u32 i, u32 key) {
  const u64 at = image(key, i);
  return at >= c.least_image && (c.min_p == 0 || at == c.first || (double)c.e[i] >= c.min_p);
}

// total_weight is the sum of the survivors' weights.
FN u64 total_weight(const Candidates& c) {
  __shared__ u64 part[32];
  u64 sum = 0;
  for (u32 i = thread(); i < c.n; i += kChoosers)
    if (survives(c, i, c.keys[i])) sum += weight_of(c.e[i]);
  sum = warp_sum(sum);
  barrier();
  if (lane() == 0) part[warp()] = sum;
  barrier();
  sum = 0;
  for (u32 w = 0; w < kChoosers / 32; w++) sum += part[w];
  return sum;
}

// Found is a candidate and the running sum of weights up to it and with it.
struct Found {
  u64 image, sum;
};

// bin_of finds the first of kBins bins, from the last down or from the first up, at which the running sum exceeds
// target, and takes the bins before it off target.
FN u32 bin_of(const u64* bins, u64& target, bool down) {
  __shared__ u64 groups[32];
  __shared__ u64 rest;
  __shared__ u32 answer;
  if (warp() == 0) {
    u64 sum = 0;
    for (u32 i = 0; i < kBins / 32; i++) sum += bins[down ? kBins - 1 - (lane() * (kBins / 32) + i) : lane() * (kBins / 32) + i];
    groups[lane()] = sum;
    warp_barrier();
    if (lane() == 0) {
      u32 group = 0;
      u64 left = target;
      while (group < 31 && groups[group] <= left) left -= groups[group++];
      u32 i = group * (kBins / 32);
      for (; i < kBins - 1; i++) {
        const u64 bin = bins[down ? kBins - 1 - i : i];
        if (bin > left) break;
        left -= bin;
      }
      rest = left;
      answer = down ? kBins - 1 - i : i;
    }
  }
  barrier();
  target = rest;
  return answer;
}

// first_beyond finds the first survivor, in order, at which the running sum of weights, or with count of ones, exceeds
// target. There is one.
FN Found first_beyond(const Candidates& c, u64 target, bool count) {
  __shared__ u64 bins[kBins];
  const u64 asked = target;
  u32 prefix = 0;
  for (u32 digit = 0; digit < 3; digit++) {  // of 11, 11 and 10 bits, from the top of the key
    const u32 shift = digit == 0 ? 21 : digit == 1 ? 10 : 0, width = digit == 2 ? 10 : 11;
    for (u32 b = thread(); b < kBins; b += kChoosers) bins[b] = 0;
    barrier();
    for (u32 i = thread(); i < c.n; i += kChoosers) {
      const u32 key = c.keys[i];
      if ((digit == 0 || key >> (shift + width) == prefix) && survives(c, i, key)) shared_add(&bins[key >> shift & ((1 << width) - 1)], count ? 1 : weight_of(c.e[i]));
    }
    barrier();
    prefix = prefix << width | bin_of(bins, target, true);
    barrier();
  }
  // Candidates of one logit have one weight: the number in the row of them says which it is.
  const u64 each = count ? 1 : weight_of(exp32(sub32(logit_of(prefix), logit_of(c.first >> 32))));
  u64 number = target / each;
  const u64 sum = asked - target + (number + 1) * each;
  u32 index = 0;
  for (u32 digit = 0; digit < 3; digit++) {  // of 8 bits each, from the top of an index below 2^24
    const u32 shift = 16 - 8 * digit;
    for (u32 b = thread(); b < kBins; b += kChoosers) bins[b] = 0;
    barrier();
    for (u32 i = thread(); i < c.n; i += kChoosers)
      if (c.keys[i] == prefix && i >> (shift + 8) == index && survives(c, i, prefix)) shared_add(&bins[i >> shift & 255], 1);
    barrier();
    index = index << 8 | bin_of(bins, number, false);
    barrier();
  }
  return {image(prefix, index), sum};
}

// random_bits are the first two words of Philox4x32-10.
FN u64 random_bits(u64 seed, u64 position) {
  u32 k0 = (u32)seed, k1 = (u32)(seed >> 32), c[4] = {(u32)position, (u32)(position >> 32), 0, 0};
  UNROLL
  for (int round = 0; round < 10; round++) {
    const u64 a = (u64)0xd2511f53 * c[0], b = (u64)0xcd9e8d57 * c[2];
    const u32 next0 = (u32)(b >> 32) ^ c[1] ^ k0, next2 = (u32)(a >> 32) ^ c[3] ^ k1;
    c[0] = next0, c[1] = (u32)b, c[2] = next2, c[3] = (u32)a;
    k0 += 0x9e3779b9, k1 += 0xbb67ae85;
  }
  return (u64)c[1] << 32 | c[0];
}

// choose_token draws the token after the state's position: best becomes its image, and seen gets its bit. One block.
BOUNDED_KERNEL(kChoosers, 1, choose_token, u64* best, const u32* keys, const float* e, u32 n, u32* seen, const Settings* settings, const u32* position) {
  await_grid();
  release_grid();
  const u64 first = *best;
  Candidates c = {keys, e, n, first, 0, 0};
  u64 chosen = first;
  if (settings->temperature != 0) {
    if (settings->top_k > 0 && settings->top_k < n) c.least_image = first_beyond(c, settings->top_k - 1, true).image;
    u64 total = total_weight(c);
    if (settings->top_p < 1) {
      const u64 goal = ceiling(settings->top_p * (double)total);
      if (goal <= total) {
        const Found f = first_beyond(c, goal > 0 ? goal - 1 : 0, false);
        c.least_image = f.image;
        total = f.sum;
      }
    }
    if (settings->min_p > 0) {
      c.min_p = settings->min_p;
      total = total_weight(c);
    }
    const u64 target = high_product(random_bits(settings->seed, (u64)*position + 1), total);
    chosen = first_beyond(c, target, false).image;
  }
  barrier();
  if (thread() == 0) {
    const u32 token = 0xffffffff - (u32)chosen;
    seen[token / 32] |= 1u << (token % 32);
    *best = chosen;
  }
}
