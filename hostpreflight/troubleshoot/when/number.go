package when

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// whole reads a whole number.
func whole(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}

// quantity reads a size as Kubernetes writes it: 4Gi, 500M.
func quantity(s string) (float64, error) {
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size such as 4Gi or 500M", s)
	}
	return q.AsApproximateFloat64(), nil
}

// share reads a part of a whole: 80% or 0.8.
func share(s string) (float64, error) {
	percent, is := strings.CutSuffix(s, "%")
	n, err := strconv.ParseFloat(percent, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a share such as 80%%", s)
	}
	if is {
		n /= 100
	}
	return n, nil
}

// duration reads a span of time as Go writes it: 10ms.
func duration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 10ms", s)
	}
	return d, nil
}
