package etcd

import (
	"context"
	"errors"
	"strings"
)

// listed is a member as etcd's gateway writes it.
type listed struct {
	ID        string   `json:"ID"`
	Name      string   `json:"name"`
	PeerURLs  []string `json:"peerURLs"`
	IsLearner bool     `json:"isLearner"`
}

// list asks this member for the list. Not linearizable: also a member without a
// quorum tells what it knows.
func (c *Client) list(ctx context.Context) ([]listed, error) {
	var list struct{ Members []listed }
	err := c.call(ctx, "/v3/cluster/member/list", map[string]any{"linearizable": false}, &list)
	return list.Members, err
}

// AddLearner has the cluster count on a member at a peer URL that has no vote until
// Promote finds that it has caught up; while it has none, nothing depends on it. One
// that is there and never began is taken as it is: who asks may not have heard
// the first answer. It gives all members as etcd's --initial-cluster has them.
func (c *Client) AddLearner(ctx context.Context, name, peerURL string) (initial []string, err error) {
	members, err := c.list(ctx)
	if err != nil {
		return nil, err
	}
	added := ""
	for _, m := range members {
		switch {
		case m.Name != "":
		case len(m.PeerURLs) > 0 && m.PeerURLs[0] == peerURL:
			added = m.ID
		default: // etcd cannot be told of one without a name
			return nil, errors.New("etcd has a member that never started, at " + strings.Join(m.PeerURLs, ", "))
		}
	}
	if added == "" {
		var answer struct {
			Member  listed
			Members []listed
		}
		if err := c.call(ctx, "/v3/cluster/member/add", map[string]any{"peerURLs": []string{peerURL}, "isLearner": true}, &answer); err != nil {
			return nil, err
		}
		added, members = answer.Member.ID, answer.Members
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

// Promote gives each member its vote that has none and has caught up, and names
// those. etcd itself judges whether one has.
func (c *Client) Promote(ctx context.Context) (names []string, err error) {
	members, err := c.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if !m.IsLearner || m.Name == "" {
			continue
		}
		// An error is etcd's "not yet", or that another controller was quicker.
		if c.call(ctx, "/v3/cluster/member/promote", map[string]any{"ID": m.ID}, &struct{}{}) == nil {
			names = append(names, m.Name)
		}
	}
	return names, nil
}
