package troubleshoot

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/plinthdev/plinth/internal/facts"
)

// parseWholeNumber parses a whole number.
func parseWholeNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}

// parseQuantity parses a size in the Kubernetes format: 4Gi, 500M.
func parseQuantity(s string) (float64, error) {
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size such as 4Gi or 500M", s)
	}
	return q.AsApproximateFloat64(), nil
}

// parseRatio parses a ratio: 80% or 0.8.
func parseRatio(s string) (float64, error) {
	percent, isPercent := strings.CutSuffix(s, "%")
	n, err := strconv.ParseFloat(percent, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a ratio such as 80%% or 0.8", s)
	}
	if isPercent {
		n /= 100
	}
	return n, nil
}

// parseTimeout parses a time limit that Plinth can keep.
func parseTimeout(s string) error {
	d, err := parseDuration(s)
	if err == nil && (d <= 0 || d > facts.MaxVendorTimeout) {
		err = fmt.Errorf("%q must be above 0 and at most %s", s, facts.MaxVendorTimeout)
	}
	return err
}

// parseDuration parses a duration in the Go format: 10ms.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 10ms", s)
	}
	return d, nil
}
