package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/trace"
)

// Trace describes the trace of a run. Its JSON encoding is public.
type Trace struct {
	File         string          `json:"file"`
	CriticalPath []trace.Segment `json:"criticalPath"`
}

// tracer records the trace of one run.
type tracer struct {
	file  string
	start time.Time
	steps trace.Recorder
}

// clusterTimeout is how long the cluster is read for a trace.
const clusterTimeout = 10 * time.Second

// beginTrace records the events of env from now on, without secrets. It writes a trace without events to file first, so
// that a place where nothing can be written is refused before the run begins. An earlier trace is replaced, because a run
// is resumed with the same command; any other file is refused.
func (env *Env) beginTrace(verb, file string) (*tracer, error) {
	t := &tracer{start: env.Now()}
	refuse := func(err error) error {
		return problem.New(problem.ExitUsage, "write the trace "+file, err, "name a new file in an existing folder with --trace; nothing on this host was changed")
	}
	var err error
	if t.file, err = filepath.Abs(file); err != nil {
		return nil, refuse(err)
	}
	if _, err := env.Host.ReadDir(filepath.Dir(t.file)); err != nil {
		return nil, refuse(fmt.Errorf("its folder cannot be read: %w", err))
	}
	if err := env.checkReplaceable(t.file); err != nil {
		return nil, refuse(err)
	}
	if err := env.writeTrace(t.file, trace.Run{Verb: verb, Version: env.Version, Start: t.start, End: t.start}); err != nil {
		return nil, refuse(err)
	}
	events := env.Events
	env.Events = func(e step.Event) {
		events(e)
		e.Message = env.Secrets.Mask(e.Message)
		t.steps.Event(e)
	}
	return t, nil
}

// checkReplaceable returns an error if there is a file that is not a trace.
func (env *Env) checkReplaceable(file string) error {
	info, err := env.Host.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().IsRegular() {
		var f io.ReadCloser
		if f, err = env.Host.OpenFile(file); err == nil {
			defer func() { _ = f.Close() }()
			var begin []byte
			if begin, err = io.ReadAll(io.LimitReader(f, 1024)); err == nil && trace.IsTrace(begin) {
				return nil
			}
		}
	}
	if err == nil {
		err = errors.New("it exists, and is not a trace")
	}
	return err
}

// writeTrace writes the trace of a run.
func (env *Env) writeTrace(file string, run trace.Run) error {
	raw, err := run.Encode()
	if err != nil {
		return err
	}
	return env.Host.Write(file, bytes.NewReader(raw), 0o600)
}

// end reads what the cluster tells of the run, writes the trace, and notes the critical path. What fails is only a
// warning: the run has ended already.
func (t *tracer) end(ctx context.Context, env *Env, verb string) *Trace {
	now := env.Now()
	run := trace.Run{Verb: verb, Version: env.Version, Start: t.start, End: now, Steps: t.steps.Steps(now)}
	if len(run.Steps) > 0 {
		run.Objects, run.Missing = env.readObjects(ctx)
	}
	if err := env.writeTrace(t.file, run); err != nil {
		env.Note("warning: cannot write the trace " + t.file + ": " + err.Error())
		return nil
	}
	path := run.CriticalPath()
	if len(run.Steps) > 0 {
		env.Note(trace.FormatPath(verb, path) + "Trace: " + t.file)
	}
	for _, what := range run.Missing {
		env.Note("warning: the trace lacks " + what)
	}
	return &Trace{File: t.file, CriticalPath: path}
}

// readObjects reads once what this host and the cluster tell of the times of a run, and returns what could not be read.
// A worker has no credentials for the cluster.
func (env *Env) readObjects(ctx context.Context) (objects []trace.Object, missing []string) {
	if ctx.Err() != nil {
		return nil, []string{"the objects of the cluster: the run was interrupted"}
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	units, err := probe.UnitProperties(ctx, env.Host, "Id,ActiveEnterTimestampMonotonic", k0s.ControllerUnit, k0s.WorkerUnit, node.AgentUnit)
	if err != nil {
		missing = append(missing, "the units of systemd: "+err.Error())
	}
	booted := probe.BootTime(env.Host, env.Now())
	for _, u := range units {
		if at := probe.TimeSinceBoot(booted, u["ActiveEnterTimestampMonotonic"]); !at.IsZero() {
			objects = append(objects, trace.Object{Kind: trace.Unit, Name: u["Id"], Milestones: []trace.Milestone{{Name: "started", At: at}}})
		}
	}
	found, err := env.readCluster(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("this host has no kubeconfig of an administrator")
	}
	if err != nil {
		missing = append(missing, "the objects of the cluster: "+problem.ExplainConnection(err))
	}
	return append(objects, found...), missing
}

// readCluster reads the collections that a trace needs.
func (env *Env) readCluster(ctx context.Context) ([]trace.Object, error) {
	client, err := env.KubeClient()
	if err != nil {
		return nil, err
	}
	lists := map[string][]byte{}
	for _, c := range trace.Collections() {
		if lists[c.Kind], err = client.ListRaw(ctx, c.Path); err != nil {
			return nil, err
		}
	}
	return trace.ParseObjects(lists)
}
