package helm

import (
	"errors"
	"fmt"
	"runtime/metrics"
	"time"
)

// ErrTooExpensive means that a chart takes more time or memory to render than a chart may. Its templates run on until
// the program ends, because Helm's engine cannot be stopped: end the program soon.
var ErrTooExpensive = errors.New("rendering takes too much time or memory")

// renderLimits are what one rendering may take. A large chart takes a second and 100 MB.
type renderLimits struct {
	time   time.Duration
	memory uint64 // in bytes, of the whole program beyond that before
}

var defaultLimits = renderLimits{time: time.Minute, memory: 1e9}

// limitInterval is how often the memory is measured.
const limitInterval = 20 * time.Millisecond

// limited returns what f returns, or ErrTooExpensive if f takes more than the limits.
func limited[T any](limits renderLimits, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	before := heapSize()
	go func() {
		var r result
		defer func() { done <- r }()
		defer recoverRender(&r.err)
		r.value, r.err = f()
	}()
	var none T
	var began time.Time // the first measurement
	tick := time.NewTicker(limitInterval)
	defer tick.Stop()
	for {
		select {
		case r := <-done:
			return r.value, r.err
		case at := <-tick.C:
			if began.IsZero() {
				began = at
			}
			if at.Sub(began) > limits.time {
				return none, fmt.Errorf("%w: not rendered after %s", ErrTooExpensive, limits.time)
			}
			if now := heapSize(); now > before+limits.memory {
				return none, fmt.Errorf("%w: more than %d MB of memory", ErrTooExpensive, limits.memory/1e6)
			}
		}
	}
}

// heapSize returns the memory of all objects of the program, in bytes.
func heapSize() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
