package support

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/supportbundle"
	"github.com/plinthdev/plinth/internal/wait"
)

// Limits of the collection from other nodes.
const (
	maxNodesAtOnce   = 3                // with this host
	nodeTimeout      = 75 * time.Second // for one node
	nodePoll         = time.Second
	manifestBytes    = 8 << 20 // of a part besides its content: the lists of what was removed and left out
	maxNodeLeftOut   = 100     // entries of one node in the list of what is left out
	folderCollectors = "host-collectors/"
	nodeListFile     = folderSystem + "node_list.json" // the nodes in the bundle, for troubleshoot.sh's analyzers
)

// nodeAPI is the part of the agents of other nodes that a bundle uses; agent.SupportClient implements it.
type nodeAPI interface {
	Start(ctx context.Context, node netip.Addr, q agent.SupportRequest) error
	State(ctx context.Context, node netip.Addr) (agent.SupportState, error)
	Fetch(ctx context.Context, node netip.Addr, id string, limit int64) ([]byte, error)
}

var _ nodeAPI = agent.SupportClient{}

// NodeResult is what a bundle of several nodes has of one of them. Its JSON format is public.
type NodeResult struct {
	Name      string              `json:"name"`
	Collected bool                `json:"collected"`
	Reason    string              `json:"reason,omitempty"`   // why it is not in the bundle, or not complete
	Findings  []diagnosis.Finding `json:"findings,omitempty"` // as of Diagnose on another node, without those of this host
}

// otherNodes are the nodes besides this host from which a bundle collects.
type otherNodes struct {
	self    string            // name of this node
	records []kube.NodeRecord // of the nodes to ask
	missing []NodeResult      // nodes that were requested and cannot be asked
	unknown string            // why the nodes of the cluster are not known; "" if they are
	agents  nodeAPI
	poll    time.Duration
}

// several reports whether the bundle is of more nodes than this host.
func (o otherNodes) several() bool { return len(o.records)+len(o.missing) > 0 }

// file returns the name in the bundle of a file of a node: that of a bundle of one host or, in a bundle of several nodes,
// where troubleshoot.sh's analyzers look for it (v0.133.0, pkg/analyze.retrieveCollectedContents).
func (o otherNodes) file(node, name string) string {
	rest, ok := strings.CutPrefix(name, folderCollectors)
	if !ok || !o.several() {
		return name
	}
	collector, rest, _ := strings.Cut(rest, "/")
	return folderCollectors + collector + "/" + node + "/" + rest
}

// findNodes returns the nodes from which a bundle collects: those that want names or, if it is empty or "all", all of the
// cluster. Only a controller can ask other nodes.
func (c *collector) findNodes(ctx context.Context, want []string) (o otherNodes, err error) {
	o.self, o.poll = cmp.Or(c.receipt.Node, c.recorded.Node, c.hostname), nodePoll
	others := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return name == o.self })
	if len(want) > 0 && len(others) == 0 {
		return o, nil
	}
	client, err := readInTime(ctx, c.env.KubeClient)
	if errors.Is(err, fs.ErrNotExist) || c.install.Worker {
		if len(others) == 0 {
			return o, nil
		}
		return o, problem.Newf(problem.ExitUsage, "collect from other nodes", "run it on a controller of the cluster, or without --nodes for this host alone",
			"this host is not a controller of a cluster")
	}
	var records kube.NodeRecords
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, recordsTimeout)
		defer cancel()
		records, err = client.NodeRecords(ctx)
	}
	if err == nil {
		return o, o.choose(others, records.Sorted())
	}
	o.unknown = "the nodes of the cluster are not known: " + problem.ExplainConnection(err)
	for _, name := range others {
		if name != allNodes {
			o.missing = append(o.missing, NodeResult{Name: name, Reason: o.unknown})
		}
	}
	return o, nil
}

// allNodes is the value of --nodes for all nodes of the cluster.
const allNodes = "all"

// choose sets the nodes to ask: those of records that want names, or all if it is empty or has "all".
func (o *otherNodes) choose(want []string, records []kube.NodeRecord) error {
	all := len(want) == 0 || slices.Contains(want, allNodes)
	var known []string
	for _, r := range records {
		known = append(known, r.Node)
		if r.Node != o.self && (all || slices.Contains(want, r.Node)) {
			o.records = append(o.records, r)
		}
	}
	for _, name := range want {
		if name != allNodes && !slices.Contains(known, name) {
			return problem.Newf(problem.ExitUsage, "collect from other nodes", "the nodes are: "+strings.Join(known, ", "), "the cluster has no node %q", name)
		}
	}
	return nil
}

// connect sets the client of the nodes' agents. Without the certificate of this node's agent, none can be asked.
func (o *otherNodes) connect(ctx context.Context, env *action.Env) {
	if o.agents != nil || len(o.records) == 0 {
		return
	}
	client, err := readInTime(ctx, func() (agent.SupportClient, error) {
		certificate, pin, err := env.AgentIdentity()
		return agent.NewSupportClient(certificate, pin), err
	})
	if err == nil {
		o.agents = client
		return
	}
	for _, r := range o.records {
		o.missing = append(o.missing, NodeResult{Name: r.Node, Reason: "cannot ask it: " + err.Error()})
	}
	o.records = nil
}

// partLimit returns how much one node may contribute, in bytes.
func (o otherNodes) partLimit() int64 {
	return max(agent.MinSupportBytes, int64(bundleBytes)/int64(len(o.records)+1))
}

// nodePart is what was collected of another node.
type nodePart struct {
	NodeResult
	content []byte // an archive; nil if there is none
}

// collect collects the parts of the other nodes while others have the slots, and returns them in order of the nodes.
func (o otherNodes) collect(ctx context.Context, since time.Duration, slots chan struct{}) []nodePart {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails (crypto/rand)
	q := agent.SupportRequest{ID: hex.EncodeToString(random), Since: max(1, int64(since.Seconds())), Limit: o.partLimit()}
	parts := make([]nodePart, len(o.records))
	var collecting sync.WaitGroup
	for i, r := range o.records {
		parts[i].Name = r.Node
		collecting.Go(func() {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				parts[i].Reason = fmt.Sprintf("not collected: the time limit of %s is over", bundleTimeout)
				return
			}
			content, err := o.collectNode(ctx, r, q)
			if err != nil {
				parts[i].Reason = err.Error()
				return
			}
			parts[i].content = content
		})
	}
	collecting.Wait()
	return parts
}

// collectNode has a node collect its part, waits for it, and returns it.
func (o otherNodes) collectNode(ctx context.Context, r kube.NodeRecord, q agent.SupportRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	address, err := netip.ParseAddr(r.Address)
	if err != nil {
		return nil, err
	}
	if err := o.agents.Start(ctx, address, q); err != nil {
		return nil, errors.New("its agent does not collect: " + problem.ExplainConnection(err))
	}
	limits := wait.Options{What: "its part", Timeout: nodeTimeout, Interval: o.poll, NextCommand: "on node " + r.Node + ": sudo plinth support-bundle"}
	err = wait.Until(ctx, limits, func(ctx context.Context) (bool, string, error) {
		s, err := o.agents.State(ctx, address)
		switch {
		case err != nil:
			return false, "its agent does not answer: " + problem.ExplainConnection(err), nil
		case s.ID != q.ID:
			return false, "", errors.New("another controller collects from it")
		case s.Failed != "":
			return false, "", errors.New(s.Failed)
		}
		return !s.Running && s.Size > 0, "it collects", nil
	})
	if err != nil {
		return nil, errors.New(problem.ExplainConnection(err))
	}
	content, err := o.agents.Fetch(ctx, address, q.ID, q.Limit+manifestBytes)
	if err != nil {
		return nil, errors.New("its agent does not send its part: " + problem.ExplainConnection(err))
	}
	return content, nil
}

// addParts adds the files of other nodes, and returns what the bundle has of each of them. known are the findings of this
// host.
func (p packer) addParts(b *supportbundle.Writer, parts []nodePart, known []diagnosis.Finding) (results []NodeResult) {
	for _, part := range parts {
		r := part.NodeResult
		if r.Reason == "" {
			p.report("add node " + r.Name)
			r.Collected = true
			if err := p.addPart(b, part.content, &r, known); err != nil {
				r.Collected, r.Reason = false, err.Error()
			}
		}
		if !r.Collected {
			b.LeaveOut(p.nodes.file(r.Name, folderPlinth), r.Reason)
		}
		results = append(results, r)
	}
	return results
}

// addPart adds the files of one node. They are redacted again: this host knows secrets of the cluster that the node does
// not know.
func (p packer) addPart(b *supportbundle.Writer, content []byte, r *NodeResult, known []diagnosis.Finding) error {
	seen := map[string]bool{}
	return supportbundle.Read(bytes.NewReader(content), p.nodes.partLimit()+manifestBytes, func(name string, content []byte) error {
		if seen[name] {
			return fmt.Errorf("its part has %s twice", name)
		}
		seen[name] = true
		switch {
		case name == "left-out.json":
			var leftOut []supportbundle.LeftOut
			if err := json.Unmarshal(content, &leftOut); err != nil {
				return err
			}
			for _, l := range leftOut[:min(len(leftOut), maxNodeLeftOut)] {
				l.File = p.nodes.file(r.Name, l.File)
				b.RecordLeftOut(l)
			}
		case strings.HasPrefix(name, folderCollectors):
			if name == folderPlinth+diagnosisFile {
				r.Findings = otherFindings(content, known)
				for i := range r.Findings {
					r.Findings[i].Evidence = p.redactor.RedactLines(r.Findings[i].Evidence)
				}
			}
			b.Add(p.nodes.file(r.Name, name), content)
		}
		return nil
	})
}

// otherFindings returns the findings in a node's report that are not known: all controllers find what is wrong in the
// cluster.
func otherFindings(report []byte, known []diagnosis.Finding) []diagnosis.Finding {
	var r Report
	if err := json.Unmarshal(report, &r); err != nil {
		return nil // the file is in the bundle
	}
	return slices.DeleteFunc(r.Findings, func(f diagnosis.Finding) bool {
		return slices.ContainsFunc(known, func(k diagnosis.Finding) bool {
			return k.Rule == f.Rule && k.Culprit == f.Culprit && slices.Equal(k.Evidence, f.Evidence)
		})
	})
}

// addNodeFiles adds the lists of the nodes.
func (p packer) addNodeFiles(b *supportbundle.Writer, results []NodeResult) {
	names := []string{}
	for _, r := range results {
		if r.Collected {
			names = append(names, r.Name)
		}
	}
	b.AddAlways(nodeListFile, encodeFile("", map[string]any{"nodes": names}).content)
	b.AddAlways(folderPlinth+"nodes.json", encodeFile("", results).content)
}
