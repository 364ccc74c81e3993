package runtime

import (
	"os"
	"strconv"
	"strings"
)

// lastCache returns the size of the largest cache of the first processor in bytes.
func lastCache() int64 {
	largest := int64(0)
	for _, index := range []string{"index0", "index1", "index2", "index3", "index4"} {
		data, err := os.ReadFile("/sys/devices/system/cpu/cpu0/cache/" + index + "/size")
		if err != nil {
			continue
		}
		text, unit := strings.TrimSpace(string(data)), int64(1)
		switch {
		case strings.HasSuffix(text, "K"):
			unit = 1 << 10
		case strings.HasSuffix(text, "M"):
			unit = 1 << 20
		}
		if n, err := strconv.ParseInt(strings.TrimRight(text, "KM"), 10, 64); err == nil {
			largest = max(largest, n*unit)
		}
	}
	if largest == 0 {
		return usualCache
	}
	return largest
}
