package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// Bound is what a plan holds for: an install by this plan is refused where any
// of it is no longer so. Its JSON form is public.
type Bound struct {
	Asked  map[string]string `json:"asked"`  // what the install was asked for; files by their digests
	Facts  map[string]string `json:"facts"`  // of the host, as far as the plan depends on them
	Digest string            `json:"digest"` // of the two, and of the steps
}

// bind says what a plan of steps depends on.
func bind(s site, asked map[string]string, dataDir string, steps []step.Planned) (*Bound, error) {
	b := &Bound{Asked: asked, Facts: maps.Clone(s.facts)}
	b.Facts["data folder"] = dataDir
	for _, p := range steps {
		b.Facts["step "+p.Step] = strings.TrimSpace(p.State + " " + p.Why)
	}
	digest, err := b.sum(steps)
	b.Digest = digest
	return b, err
}

// sum is the digest of all that a plan says.
func (b Bound) sum(steps []step.Planned) (string, error) {
	raw, err := json.Marshal(map[string]any{"asked": b.Asked, "facts": b.Facts, "steps": steps})
	return fmt.Sprintf("sha256:%x", sha256.Sum256(raw)), err
}

// planFile is what `install --plan -o json` prints.
type planFile struct {
	V      int `json:"v"`
	Result struct {
		Plan  []step.Planned `json:"plan"`
		Bound *Bound         `json:"bound"`
	} `json:"result"`
}

// maxPlan is the most that is read as a plan, in bytes: hundred times one.
const maxPlan = 10 << 20

// readPlan reads the plan in a file and proves that nobody changed it.
func readPlan(path string) (*Bound, error) {
	bad := func(err error) error {
		return problem.New(problem.ExitUsage, "use the plan "+path, err, "make it anew: plinth -o json install --plan --bundle FILE >plan.json; nothing on this host was changed")
	}
	raw, err := run.Given(nil, path, maxPlan)
	if err != nil {
		return nil, bad(err)
	}
	raw = bytes.TrimSpace(raw)
	if i := bytes.LastIndexByte(raw, '\n'); i >= 0 { // what stands before is events
		raw = raw[i+1:]
	}
	var f planFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, bad(fmt.Errorf("it is no plan: %w", err))
	}
	if f.V != 1 || f.Result.Bound == nil {
		return nil, bad(fmt.Errorf("it is no plan of this version of Plinth"))
	}
	digest, err := f.Result.Bound.sum(f.Result.Plan)
	if err == nil && digest != f.Result.Bound.Digest {
		err = fmt.Errorf("it was changed: its digest does not fit")
	}
	if err != nil {
		return nil, bad(err)
	}
	return f.Result.Bound, nil
}

// held refuses an install that would not be what its plan says, and names each
// difference.
func held(plan, now *Bound) error {
	diff := differences(binding(), plan.Asked, now.Asked)
	keys := slices.Collect(maps.Keys(plan.Facts))
	for k := range now.Facts {
		if _, ok := plan.Facts[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if was, is := plan.Facts[k], now.Facts[k]; was != is {
			diff = append(diff, fmt.Sprintf("%s was %s and is now %s", k, orNone(was), orNone(is)))
		}
	}
	if len(diff) == 0 {
		return nil
	}
	return problem.Newf(problem.ExitUsage, "install by the plan "+plan.Digest, "look at the differences and make the plan anew; nothing on this host was changed",
		"what it holds for has changed: %s", strings.Join(diff, "; "))
}

// held is held for this install, by the plan file of the request.
func (a job) held(s site, req Request, steps []step.Planned) error {
	if req.PlanFile == "" {
		return nil
	}
	plan, err := readPlan(req.PlanFile)
	if err != nil {
		return err
	}
	now, err := bind(s, req.asked, a.DataDir, steps)
	if err != nil {
		return err
	}
	req.asked[run.ArgPlan] = plan.Digest
	return held(plan, now)
}
