package support

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/strictyaml"
	"github.com/plinthdev/plinth/internal/supportbundle"
	"github.com/plinthdev/plinth/internal/supportspec"
)

const folderSpecs = "support-bundle-specs/"

// ownSpec is the name of Plinth's own spec, which is for the console: every bundle has what it requests.
const ownSpec = "plinth-support-bundle"

// maxSpecFile is the size in bytes of the largest file with specs.
const maxSpecFile = 1 << 20

// specSelectors select the objects with a spec: Secrets and ConfigMaps of the vendor's application, of KOTS
// (pkg/supportbundle/spec.go and pkg/redact, v1.131.2: its own and all that it has found, as it collects them) and of
// Plinth. troubleshoot.sh's program finds them by either of the first two labels (v0.133.0, pkg/constants).
var specSelectors = []string{"troubleshoot.sh/kind=support-bundle", "troubleshoot.io/kind=support-bundle",
	"troubleshoot.sh/kind=redactor", "troubleshoot.io/kind=redactor", "kots.io/kotsadm=true"}

// specSource is a file or an object with specs, and what they request.
type specSource struct {
	name      string // for messages: the path of a file, or the name of its file in the bundle
	namespace string // of the object; "" for a file
	texts     map[string]string
	specs     supportspec.Specs
	findings  []strictyaml.Finding
}

// readSpecFiles returns the specs in the files that the user has named. The error names every problem of all of them.
func readSpecFiles(paths []string) (all []specSource, err error) {
	var findings []strictyaml.Finding
	for _, p := range paths {
		raw, err := action.ReadInput(nil, p, maxSpecFile)
		if err != nil {
			return nil, problem.New(problem.ExitConfig, "read the spec "+p, err, "name a file with a SupportBundle or a Redactor of troubleshoot.sh with --spec")
		}
		s := specSource{name: p, texts: map[string]string{supportspec.BundleKey: string(raw)}}
		s.specs, s.findings = supportspec.Parse(p, raw)
		all, findings = append(all, s), append(findings, s.findings...)
	}
	if len(findings) == 0 {
		return all, nil
	}
	lines := []string{"they are not valid"}
	for _, f := range findings {
		lines = append(lines, "  "+f.String())
	}
	return nil, problem.New(problem.ExitConfig, "use the specs of --spec", errors.New(strings.Join(lines, "\n")), "correct them, then run the same command again")
}

// findSpecs returns the objects with specs in the cluster, and records the error if they cannot be read: their redactors
// name what must not be in a bundle.
func (c *collector) findSpecs(ctx context.Context) (all []specSource) {
	if c.client == nil || c.install.Worker || c.objects == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	found := map[string]specSource{} // an object may have several labels
	add := func(kind string, meta metav1.ObjectMeta, text func(key string) string) {
		s := specSource{name: folderSpecs + meta.Namespace + "/" + kind + "-" + meta.Name, namespace: meta.Namespace, texts: map[string]string{}}
		for _, key := range supportspec.Keys() {
			if t := text(key); t != "" {
				s.texts[key] = t
				if meta.Name == ownSpec {
					continue
				}
				specs, findings := supportspec.Parse(s.name, []byte(t))
				s.specs.Add(specs)
				s.findings = append(s.findings, findings...)
			}
		}
		if len(s.texts) > 0 {
			found[s.name] = s
		}
	}
	for _, selector := range specSelectors {
		options := metav1.ListOptions{LabelSelector: selector}
		if secrets, err := c.client.Core().Secrets("").List(ctx, options); err != nil {
			c.setUnreadable("the Secrets with redactors", err)
		} else {
			for _, s := range secrets.Items {
				add("secret", s.ObjectMeta, func(key string) string { return string(s.Data[key]) })
			}
		}
		if configMaps, err := c.client.Core().ConfigMaps("").List(ctx, options); err != nil {
			c.setUnreadable("the ConfigMaps with redactors", err)
		} else {
			for _, m := range configMaps.Items {
				add("configmap", m.ObjectMeta, func(key string) string { return m.Data[key] })
			}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b specSource) int { return strings.Compare(a.name, b.name) })
}

// vendorRules returns the rules of all redactors, those in files first.
func (p packer) vendorRules() (rules []supportbundle.VendorRule) {
	for _, s := range slices.Concat(p.specFiles, p.found) {
		rules = append(rules, s.specs.Rules...)
	}
	return rules
}

// bundleSpecs returns the specs of support bundles in files and in the cluster, as files that troubleshoot.sh's program
// takes.
func (p packer) bundleSpecs() (all []file) {
	for i, s := range p.specFiles {
		for j, doc := range s.specs.Bundles {
			all = append(all, encodeFile(fmt.Sprintf("%sfiles/%d-%d.json", folderSpecs, i+1, j+1), doc))
		}
	}
	if p.secretsErr != nil {
		return all
	}
	for _, s := range p.found {
		all = append(all, splitSpec(s.name, []byte(s.texts[supportspec.BundleKey]))...)
	}
	return all
}

// splitSpec returns the documents of a spec as files, in JSON: what is removed from it does not make it invalid, and
// every reader of YAML reads it. A document that cannot be read is added as text.
func splitSpec(name string, spec []byte) (all []file) {
	for i, doc := range bytes.Split(append([]byte("\n"), spec...), []byte("\n---")) {
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		suffix := ""
		if i > 0 {
			suffix = "-" + strconv.Itoa(i)
		}
		content, err := yaml.YAMLToJSON(doc)
		if err != nil {
			all = append(all, file{name + suffix + ".yaml", doc})
			continue
		}
		if string(content) != "null" { // a comment
			all = append(all, file{name + suffix + ".json", content})
		}
	}
	return all
}

// addSpecNotes lists what of the specs is not in the bundle: collectors that Plinth does not carry out, and what is wrong
// in the specs of the cluster.
func (p packer) addSpecNotes(b *supportbundle.Writer) {
	if p.dropped > 0 {
		b.LeaveOut(folderSpecs, fmt.Sprintf("%d redactors are not applied: there are too many, or their expressions are too complex", p.dropped))
	}
	for _, s := range slices.Concat(p.specFiles, p.found) {
		for _, f := range s.findings {
			b.LeaveOut(s.name, strings.TrimPrefix(f.String(), s.name+":"))
		}
		reasons := skippedCollectors(s)
		for _, kind := range slices.Sorted(maps.Keys(reasons)) {
			b.RecordLeftOut(supportbundle.LeftOut{File: s.name, Reason: "the collector " + kind + " is not carried out: " + reasons[kind], Expected: true})
		}
		for range s.specs.URIs {
			b.RecordLeftOut(supportbundle.LeftOut{File: s.name, Reason: "its uri is not fetched: only what the spec has itself is collected", Expected: true})
		}
	}
}

// noteSkipped tells the user at once which collectors of the specs in files are not carried out.
func noteSkipped(env *action.Env, specs []specSource) {
	reasons := map[string]string{}
	for _, s := range specs {
		maps.Copy(reasons, skippedCollectors(s))
	}
	if len(reasons) > 0 {
		env.Note("note: these collectors of the specs are not carried out: " + strings.Join(slices.Sorted(maps.Keys(reasons)), ", ") + "; left-out.json in the bundle says why")
	}
}

// skippedCollectors returns why collectors of a spec are not carried out, by their kinds. Only the user of this host may
// request files of it: the authors of objects in the cluster need no rights here.
func skippedCollectors(s specSource) map[string]string {
	reasons := map[string]string{}
	for _, c := range s.specs.Collectors {
		if support := supportspec.ClusterSupport(c.Kind); !support.Collected {
			reasons[c.Kind] = support.Reason
		}
	}
	for _, c := range s.specs.HostCollectors {
		switch support := supportspec.HostSupport(c.Kind); {
		case !support.Collected:
			reasons["host "+c.Kind] = support.Reason
		case s.namespace != "" && !support.Covered:
			reasons["host "+c.Kind] = "the host is only collected for specs in files; give it with --spec"
		}
	}
	return reasons
}

// diskPaths returns the paths whose usage the specs request.
func diskPaths(specs []specSource) (paths []string) {
	for _, s := range specs {
		for _, c := range s.specs.HostCollectors {
			if c.Kind == "diskUsage" {
				paths = append(paths, path.Clean(c.Path))
			}
		}
	}
	return paths
}
