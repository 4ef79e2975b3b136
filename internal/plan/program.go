package plan

import (
	"context"
	"encoding/json"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/step"
)

// programStepID is the id of the step that puts this program on the PATH. Its states in the journal
// are the digests of what it put there.
const programStepID = "plinth-binary"

// programSteps returns the step that puts this program on the PATH, before the steps that may fail:
// the hints of a failed run name commands of plinth. A file that no run put there stays.
func (c Cluster) programSteps() []step.Step {
	if c.ProgramFile.Path == "" {
		return nil
	}
	program := node.Program{File: c.ProgramFile, Installed: InstalledPrograms(c.StateStore)}
	s := fileStep(c.Host, programStepID, "Put plinth on the PATH", c.ProgramFile)
	s.Check = func(ctx context.Context) (step.State, error) { return stepState(program.Check(ctx, c.Host)) }
	write := s.Apply
	s.Apply = func(ctx context.Context, report step.Report) error {
		if err := c.StateStore.SaveState(programStepID, c.ProgramFile.Digest); err != nil {
			return err
		}
		return write(ctx, report)
	}
	return []step.Step{s}
}

// InstalledPrograms returns the digests of the programs that the runs in store put on the PATH.
func InstalledPrograms(store StateStore) (all []digest.Digest) {
	for _, raw := range store.States(programStepID) {
		var d digest.Digest
		if json.Unmarshal(raw, &d) == nil { // the journal's checksum protects it
			all = append(all, d)
		}
	}
	return all
}
