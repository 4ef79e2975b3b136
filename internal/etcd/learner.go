package etcd

import (
	"context"
	"errors"
	"strings"
)

// memberJSON is a member in the format of etcd's JSON gateway.
type memberJSON struct {
	ID        string   `json:"ID"`
	Name      string   `json:"name"`
	PeerURLs  []string `json:"peerURLs"`
	IsLearner bool     `json:"isLearner"`
}

// listMembers returns the member list of the local member. The request is not
// linearizable, so that a member without a quorum also returns what it knows.
func (c *Client) listMembers(ctx context.Context) ([]memberJSON, error) {
	var list struct{ Members []memberJSON }
	err := c.postJSON(ctx, "/v3/cluster/member/list", map[string]any{"linearizable": false}, &list)
	return list.Members, err
}

// AddLearner adds a member with this peer URL as a learner: it has no vote
// until Promote finds that it has caught up, and until then nothing depends on
// it. A learner with the same peer URL that never started is reused, because
// the caller may not have received the first response. AddLearner returns all
// members in the format of etcd's --initial-cluster.
func (c *Client) AddLearner(ctx context.Context, name, peerURL string) (initial []string, err error) {
	members, err := c.listMembers(ctx)
	if err != nil {
		return nil, err
	}
	added := ""
	for _, m := range members {
		switch {
		case m.Name != "":
		case len(m.PeerURLs) > 0 && m.PeerURLs[0] == peerURL:
			added = m.ID
		default: // a member without a name cannot be written to --initial-cluster
			return nil, errors.New("etcd has a member that never started, at " + strings.Join(m.PeerURLs, ", "))
		}
	}
	if added == "" {
		var resp struct {
			Member  memberJSON
			Members []memberJSON
		}
		if err := c.postJSON(ctx, "/v3/cluster/member/add", map[string]any{"peerURLs": []string{peerURL}, "isLearner": true}, &resp); err != nil {
			return nil, err
		}
		added, members = resp.Member.ID, resp.Members
	}
	for _, m := range members {
		if m.ID == added {
			m.Name = name
		}
		for _, u := range m.PeerURLs {
			initial = append(initial, m.Name+"="+u)
		}
	}
	return initial, nil
}

// Promote gives a vote to each learner that has caught up, which etcd itself
// decides, and returns their names.
func (c *Client) Promote(ctx context.Context) (names []string, err error) {
	members, err := c.listMembers(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if !m.IsLearner || m.Name == "" {
			continue
		}
		// An error means that the learner has not caught up, or that another
		// controller has promoted it already.
		if c.postJSON(ctx, "/v3/cluster/member/promote", map[string]any{"ID": m.ID}, &struct{}{}) == nil {
			names = append(names, m.Name)
		}
	}
	return names, nil
}
