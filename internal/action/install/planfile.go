package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// PlanInputs is the state on which a plan depends: an install with this plan is refused
// when any of it has changed. Its JSON format is public.
type PlanInputs struct {
	Args   journal.Args      `json:"args"`   // arguments of the install; files by their digests
	Facts  map[string]string `json:"facts"`  // facts of the host on which the plan depends
	Digest string            `json:"digest"` // digest of the arguments, the facts and the steps
}

// newPlanInputs returns the state on which a plan of steps depends.
func newPlanInputs(facts map[string]string, args journal.Args, dataDir string, steps []step.Planned) (*PlanInputs, error) {
	b := &PlanInputs{Args: args, Facts: maps.Clone(facts)}
	b.Facts["data folder"] = dataDir
	for _, p := range steps {
		b.Facts["step "+p.Step] = strings.TrimSpace(p.State + " " + p.Reason)
	}
	digest, err := b.computeDigest(steps)
	b.Digest = digest
	return b, err
}

// computeDigest returns the digest of the inputs and the steps of a plan.
func (in PlanInputs) computeDigest(steps []step.Planned) (string, error) {
	raw, err := json.Marshal(map[string]any{"args": in.Args, "facts": in.Facts, "steps": steps})
	return fmt.Sprintf("sha256:%x", sha256.Sum256(raw)), err
}

// planFile is the output of `install --plan -o json`.
type planFile struct {
	V      int `json:"v"`
	Result struct {
		Plan   []step.Planned `json:"plan"`
		Inputs *PlanInputs    `json:"inputs"`
	} `json:"result"`
}

// maxPlanSize is the most that is read as a plan, in bytes: a hundred times a usual one.
const maxPlanSize = 10 << 20

// readPlanFile returns the inputs of the plan in the file at path. It returns a usage
// problem when the file is not a plan or was changed.
func readPlanFile(path string) (*PlanInputs, error) {
	bad := func(err error) error {
		return problem.New(problem.ExitUsage, "use the plan "+path, err, "create it again: plinth -o json install --plan --bundle FILE >plan.json; nothing on this host was changed")
	}
	raw, err := action.ReadInput(nil, path, maxPlanSize)
	if err != nil {
		return nil, bad(err)
	}
	raw = bytes.TrimSpace(raw)
	if i := bytes.LastIndexByte(raw, '\n'); i >= 0 { // the lines before it are events
		raw = raw[i+1:]
	}
	var f planFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, bad(fmt.Errorf("it is not a plan: %w", err))
	}
	if f.V != 1 || f.Result.Inputs == nil {
		return nil, bad(fmt.Errorf("it is not a plan of this version of Plinth"))
	}
	digest, err := f.Result.Inputs.computeDigest(f.Result.Plan)
	if err == nil && digest != f.Result.Inputs.Digest {
		err = fmt.Errorf("it was changed: its digest does not match")
	}
	if err != nil {
		return nil, bad(err)
	}
	return f.Result.Inputs, nil
}

// checkPlanMatches returns a usage problem that names each difference between the
// inputs of the plan and those of this install.
func checkPlanMatches(plan, now *PlanInputs) error {
	diff := diffArgs(planArgs(), plan.Args, now.Args)
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
	return problem.Newf(problem.ExitUsage, "apply the plan "+plan.Digest, "check the differences and create the plan again; nothing on this host was changed",
		"its inputs have changed: %s", strings.Join(diff, "; "))
}

// loadPlanFile reads the plan file of --plan-file, if there is one.
func (o *operation) loadPlanFile() (err error) {
	if o.opts.PlanFile == "" {
		return nil
	}
	o.plan, err = readPlanFile(o.opts.PlanFile)
	return err
}

// verifyPlan records the inputs of the plan and verifies that they match the loaded
// plan file, if there is one.
func (o *operation) verifyPlan(env *action.Env, steps []step.Planned) (err error) {
	if o.inputs, err = newPlanInputs(o.facts, o.args, env.DataDir, steps); err != nil || o.plan == nil {
		return err
	}
	o.args.Plan = o.plan.Digest
	return checkPlanMatches(o.plan, o.inputs)
}
