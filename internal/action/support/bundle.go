package support

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/supportbundle"
	"github.com/plinthdev/plinth/internal/wait"
)

// Limits of a bundle.
const (
	bundleTimeout = 2 * time.Minute
	bundleBytes   = 200e6 // of content, before it is compressed
)

// BundleOptions are the options of CreateBundle.
type BundleOptions struct {
	To         string        // file to write; "" for a new one in the current folder
	Dir        string        // current folder, absolute
	Since      time.Duration // age of the oldest lines of logs
	Recipients []string      // public keys of age, or files with such keys, to which the bundle is encrypted; none for no encryption
	Specs      []string      // files with specs of troubleshoot.sh
	Nodes      []string      // names of the nodes besides this host from which to collect; none or "all" for all of the cluster
}

// BundleResult is the result of CreateBundle. Its JSON format is public.
type BundleResult struct {
	Path      string                  `json:"path"`
	Size      int64                   `json:"size"`     // bytes
	Files     int                     `json:"files"`    // in the bundle
	Redacted  int                     `json:"redacted"` // secrets that were removed
	Encrypted bool                    `json:"encrypted"`
	LeftOut   []supportbundle.LeftOut `json:"leftOut,omitempty"` // what could not be collected, or did not fit
	Findings  []diagnosis.Finding     `json:"findings"`          // as of Diagnose
	Nodes     []NodeResult            `json:"nodes,omitempty"`   // this host first; none for a bundle of this host alone
}

// CreateBundle writes a support bundle: the state of this host and of the other nodes, their logs and, if the API answers,
// that of the cluster, without secrets. It changes nothing else. It ends after two minutes with what was collected until
// then. A node that does not answer is listed in the result and in the bundle.
func CreateBundle(ctx context.Context, env *action.Env, o BundleOptions) (BundleResult, error) {
	return createBundle(ctx, env, o, nil)
}

// createBundle is CreateBundle with the agents of other nodes; nil for those of the cluster. An interrupt leaves no file: a
// bundle that is complete by then is a result.
func createBundle(ctx context.Context, env *action.Env, o BundleOptions, agents nodeAPI) (BundleResult, error) {
	result, err := collectAndWrite(ctx, env, o, agents)
	if err != nil && ctx.Err() != nil {
		return BundleResult{}, problem.New(problem.ExitInterrupted, doing, context.Cause(ctx),
			"no file was written, and nothing that was collected is kept; run the same command again, or a shorter one: --nodes NAME, --since 2h")
	}
	return result, err
}

func collectAndWrite(ctx context.Context, env *action.Env, o BundleOptions, agents nodeAPI) (BundleResult, error) {
	if err := action.RequireRoot(doing); err != nil {
		return BundleResult{}, err
	}
	if o.Since <= 0 {
		return BundleResult{}, problem.Newf(problem.ExitUsage, doing, "give --since a duration such as 24h", "--since %s is not positive", o.Since)
	}
	recipients, err := action.ReadRecipients(o.Recipients)
	if err != nil {
		return BundleResult{}, err
	}
	specs, err := readSpecFiles(o.Specs)
	if err != nil {
		return BundleResult{}, err
	}
	noteSkipped(env, specs)
	collecting, cancel := context.WithTimeout(ctx, bundleTimeout)
	defer cancel()
	c := openCollector(collecting, env)
	c.diskPaths = diskPaths(specs)
	root, target := bundlePath(o, c.hostname, env.Now(), recipients != nil)
	if err := requireNewFile(collecting, env, target); err != nil {
		return BundleResult{}, err
	}
	nodes, err := c.findNodes(collecting, o.Nodes)
	if err != nil {
		return BundleResult{}, err
	}
	nodes.agents = agents
	nodes.connect(collecting, env)
	p := packer{collector: c, target: env.Host, since: o.Since, report: newReporter(env), timeout: bundleTimeout, nodes: nodes, specFiles: specs}
	result, err := p.writeFile(collecting, target, supportbundle.Options{Root: root, Time: env.Now().UTC(), Limit: bundleBytes, Recipients: recipients})
	var asIs *problem.Problem
	switch {
	case errors.As(err, &asIs):
		return BundleResult{}, err
	case errors.Is(err, fs.ErrExist): // another run was faster
		return BundleResult{}, existsProblem(target)
	case err != nil:
		return BundleResult{}, problem.New(problem.ExitUsage, doing, err, "name another file with --to, on a disk with free space")
	}
	result.Path, result.Encrypted = target, recipients != nil
	return result, nil
}

// doing is what a failed CreateBundle could not do.
const doing = "create a support bundle"

// requireNewFile refuses a target that exists, or whose disk does not answer.
func requireNewFile(ctx context.Context, env *action.Env, target string) error {
	_, err := readInTime(ctx, func() (fs.FileInfo, error) { return env.Host.Lstat(target) })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Cause(ctx)
	case errors.Is(err, wait.ErrNoReply):
		return problem.Newf(problem.ExitUsage, doing, "name a file on another disk with --to", "the disk of %s does not answer", target)
	case err != nil:
		return problem.New(problem.ExitUsage, doing, err, otherFileHint)
	}
	return existsProblem(target)
}

const otherFileHint = "name another file with --to"

func existsProblem(target string) error {
	return problem.Newf(problem.ExitUsage, doing, otherFileHint, "%s exists already", target)
}

// notInNames matches what does not belong in the name of a file.
var notInNames = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// bundlePath returns the name of the folder in the bundle, and the path of its file.
func bundlePath(o BundleOptions, hostname string, now time.Time, encrypted bool) (root, target string) {
	root = "support-bundle-" + notInNames.ReplaceAllString(hostname[:min(len(hostname), 63)], "-") + "-" + now.UTC().Format("2006-01-02T15_04_05")
	target = o.To
	if target == "" {
		target = root + ".tar.gz"
		if encrypted {
			target += ".age"
		}
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(o.Dir, target)
	}
	return root, target
}

// packer collects and packs one bundle.
type packer struct {
	*collector
	target newFiles // where the bundle is written; all else is read-only
	since  time.Duration
	report func(message string)

	timeout  time.Duration // of the collection, for messages
	hostOnly bool          // without the objects of the cluster
	nodes    otherNodes    // from which it collects, too

	specFiles []specSource            // of the user
	found     []specSource            // in the cluster; set by writeFile
	dropped   int                     // redactors in specs that are above the limits; set by writeFile
	redactor  *supportbundle.Redactor // set by writeFile
}

// writeFile writes the bundle to target.
func (p packer) writeFile(ctx context.Context, target string, o supportbundle.Options) (BundleResult, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	slots := make(chan struct{}, maxNodesAtOnce)
	slots <- struct{}{} // this host
	parts := make(chan []nodePart, 1)
	go func() { parts <- p.nodes.collect(ctx, p.since, slots) }()
	p.report("collect the state of this host and the cluster")
	s := p.snapshot(ctx)
	if isInterrupted(ctx) {
		return BundleResult{}, context.Cause(ctx)
	}
	secrets, err := p.knownSecrets(ctx)
	if err != nil {
		return BundleResult{}, err
	}
	if !p.hostOnly {
		p.found = p.findSpecs(ctx)
	}
	if p.secretsErr != nil {
		maps.DeleteFunc(s.Logs, func(name string, _ []diagnosis.Line) bool { return strings.HasPrefix(name, diagnosis.LogPods) })
	}
	p.redactor, p.dropped = supportbundle.NewRedactor(secrets...).WithVendorRules(p.vendorRules())
	o.Redactor = p.redactor
	s.Missing = p.missingParts() // with the Secrets, if they cannot be read
	read, write := io.Pipe()
	var result BundleResult
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		result, err = p.pack(ctx, write, s, o, func() []nodePart { <-slots; return <-parts })
		_ = write.CloseWithError(err) // the reader gets err
	}()
	counted := &step.Counter{Reader: read}
	err = writeNewFile(p.target, target, counted)
	if err != nil { // end the collection, whose result no one reads
		stop()
	}
	_ = read.Close() // the error is always nil
	<-done
	result.Size = counted.N
	return result, err
}

// newFiles writes files of this host.
type newFiles interface {
	Place(path string, r io.Reader, perm fs.FileMode) error // fails if the file exists
	Write(path string, r io.Reader, perm fs.FileMode) error
}

// writeNewFile writes a file that does not exist, and that no one else can read, from r. The file has no name until it is
// complete, unless its file system has no such files, like FAT: there, a second run with the same target is not noticed.
func writeNewFile(files newFiles, target string, r io.Reader) error {
	err := files.Place(target, r, 0o600)
	if errors.Is(err, errors.ErrUnsupported) { // r has not been read
		return files.Write(target, r, 0o600)
	}
	return err
}

// pack writes the bundle with what it collects to w. others returns the parts of other nodes, once this host is collected.
func (p packer) pack(ctx context.Context, w io.Writer, s diagnosis.Snapshot, o supportbundle.Options, others func() []nodePart) (BundleResult, error) {
	b, err := supportbundle.NewWriter(w, o)
	if err != nil {
		return BundleResult{}, err
	}
	report := newReport(s)
	p.addItems(ctx, b, p.hostItems(ctx, forBundle(s, o.Redactor)))
	if !p.hostOnly {
		p.addCluster(ctx, b, s)
	}
	var nodes []NodeResult
	if p.nodes.several() {
		p.report("wait for the other nodes")
		nodes = append([]NodeResult{{Name: p.nodes.self, Collected: true}}, p.addParts(b, others(), report.Findings)...)
		for _, n := range p.nodes.missing {
			b.LeaveOut(p.nodes.file(n.Name, folderPlinth), n.Reason)
			nodes = append(nodes, n)
		}
		p.addNodeFiles(b, nodes)
	}
	if p.nodes.unknown != "" {
		b.LeaveOut(folderPlinth+"nodes.json", p.nodes.unknown)
	}
	p.addItems(ctx, b, p.journalItems(p.since)) // after the state: their oldest lines are left out first
	p.addSpecs(ctx, b, s)                       // last: every bundle has the rest
	b.AddAlways("analysis.json", encodeFile("", analysis(report.Findings, nodes)).content)
	for _, m := range s.Missing {
		b.LeaveOut(m.Fact, m.Reason)
	}
	if isInterrupted(ctx) { // what is missing in it was not collected, and would look as if time was over
		return BundleResult{}, context.Cause(ctx)
	}
	summary, err := b.Close()
	return BundleResult{Files: summary.Files, Redacted: summary.Redacted, LeftOut: summary.LeftOut, Findings: report.Findings, Nodes: nodes}, err
}

// isInterrupted reports whether ctx was canceled, and not ended by its time limit.
func isInterrupted(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// forBundle returns s without the objects of the cluster, which the bundle has elsewhere, and without the secrets in
// logs: in JSON, each line is a text of its own, and secrets may span several.
func forBundle(s diagnosis.Snapshot, r *supportbundle.Redactor) diagnosis.Snapshot {
	s.Cluster = nil
	logs := map[string][]diagnosis.Line{}
	for name, lines := range s.Logs {
		texts := make([]string, len(lines))
		for i, l := range lines {
			texts[i] = l.Text
		}
		for i, text := range r.RedactLines(texts) {
			logs[name] = append(logs[name], diagnosis.Line{Time: lines[i].Time, Text: text})
		}
	}
	s.Logs = logs
	return s
}

// addCluster adds the objects of the cluster, and the logs of pods. Both can have values of Secrets and what a vendor has
// removed, so neither is added if those are not known.
func (p packer) addCluster(ctx context.Context, b *supportbundle.Writer, s diagnosis.Snapshot) {
	if p.secretsErr != nil {
		b.LeaveOut("objects of the cluster and logs of pods", p.secretsErr.Error())
		return
	}
	p.report("collect the objects of the cluster")
	all, failed := p.clusterFiles(ctx)
	for _, f := range all {
		b.Add(f.name, f.content)
	}
	for _, f := range failed {
		b.LeaveOut(f.name, string(f.content))
	}
	if s.Cluster == nil {
		return
	}
	if s.Cluster.Releases != nil {
		b.Add("helm/releases.json", encodeFile("", s.Cluster.Releases).content)
	}
	if !s.Cluster.Partial {
		logs, left := p.podLogFiles(ctx, s.Cluster.Pods)
		for _, f := range logs {
			b.Add(f.name, f.content)
		}
		if left > 0 {
			b.LeaveOut(folderCluster+"pods/logs", fmt.Sprintf("the logs of %d containers are left out: at most %d are collected", left, maxBundleLogs))
		}
	}
}

// collected is the result of an item.
type collected struct {
	content []byte
	err     error
}

// addItems runs items, a few at once, and adds their results in order. An item that fails, or that time is not left for,
// is listed as left out.
func (p packer) addItems(ctx context.Context, b *supportbundle.Writer, items []item) {
	results := make([]chan collected, len(items))
	slots := make(chan struct{}, maxConcurrency)
	for i := range items {
		results[i] = make(chan collected, 1)
	}
	go func() {
		for i, it := range items {
			slots <- struct{}{}
			go func() {
				if ctx.Err() != nil {
					results[i] <- collected{err: fmt.Errorf("not collected: the time limit of %s is over", p.timeout)}
					return
				}
				content, err := it.run(ctx)
				results[i] <- collected{content, err}
			}()
		}
	}()
	for i, it := range items {
		p.report(fmt.Sprintf("collect %s (%d of %d)", it.name, i+1, len(items)))
		r := <-results[i]
		<-slots // after the result was used, so that few are in memory
		// A kernel may have no such file, or refuse it: /proc/pressure without the accounting of it.
		if r.err != nil && !errors.Is(r.err, fs.ErrNotExist) && !errors.Is(r.err, errors.ErrUnsupported) {
			b.LeaveOut(p.nodes.file(p.nodes.self, it.name), explain(r.err))
		}
		if len(r.content) > 0 {
			b.Add(p.nodes.file(p.nodes.self, it.name), r.content)
		}
	}
}

// newReporter returns a function that reports progress.
func newReporter(env *action.Env) func(message string) {
	return func(message string) {
		env.Events(step.Event{V: 1, Time: env.Now().UTC(), Verb: "support-bundle", Step: "collect", Title: "Collect", State: step.Progress, Message: message})
	}
}
