package cleanup

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// NetworkKinds returns the leftovers in a host's network, in the order in which they are removed:
// links, namespaces, routes, packet rules, address sets. Only objects whose name, content or
// address shows that they belong to the cluster are found.
func NetworkKinds(base Finder) []Kind {
	f := networkFinder{base}
	return []Kind{
		{ID: "links", Title: "Remove network links", Find: f.findLinks, Delete: f.removeLinks},
		{ID: "network-namespaces", Title: "Remove pods' network namespaces", Find: f.findNamespaces, Delete: f.removeNamespaces},
		{ID: "routes", Title: "Remove routes to pods", Find: f.findRoutes, Delete: f.removeRoutes},
		{ID: "firewall-rules", Title: "Remove iptables rules", Find: f.findRules, Delete: f.removeRules},
		{ID: "firewall-tables", Title: "Remove nftables tables", Find: f.findTables, Delete: f.removeTables},
		{ID: "address-sets", Title: "Remove address sets", Find: f.findSets, Delete: f.removeSets},
	}
}

// networkFinder finds the leftovers of a cluster in the network of a host.
type networkFinder struct{ Finder }

// linkInfo is a network device in the output of `ip -j -d link`.
type linkInfo struct {
	Name   string `json:"ifname"`
	Master string `json:"master"`
	Info   struct {
		Kind string `json:"info_kind"`
	} `json:"linkinfo"`
}

// findLinks returns kube-bridge, the devices attached to it, and the devices of kube-router and
// kube-proxy. Sources of the names: kube-router 2.1 (a tunnel is "tun-" and 11 hex digits),
// kube-proxy 1.33.
func (f networkFinder) findLinks(ctx context.Context) ([]string, error) {
	out, err := f.Query(ctx, "ip", "-j", "-d", "link", "show")
	if err != nil {
		return nil, err
	}
	var list []linkInfo
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, err
	}
	tunnel := regexp.MustCompile(`^tun-[0-9a-f]{11}$`)
	var all []string
	for _, l := range list {
		switch {
		case l.Info.Kind == "veth" && l.Master == "kube-bridge",
			l.Info.Kind == "bridge" && l.Name == "kube-bridge",
			l.Info.Kind == "dummy" && slices.Contains([]string{"kube-dummy-if", "kube-ipvs0"}, l.Name),
			slices.Contains([]string{"ipip", "ip6tnl"}, l.Info.Kind) && tunnel.MatchString(l.Name):
			all = append(all, l.Name)
		}
	}
	return all, nil
}

// removeLinks deletes the devices that findLinks returns.
func (f networkFinder) removeLinks(ctx context.Context) error {
	names, err := f.findLinks(ctx)
	if err != nil {
		return err
	}
	return ForEach(names, func(name string) error { return f.Execute(ctx, "ip", "link", "delete", name) })
}

// findNamespaces returns the network namespaces that containerd created for pods.
func (f networkFinder) findNamespaces(context.Context) ([]string, error) {
	entries, err := f.ReadDir(NetnsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	shape := regexp.MustCompile(`^cni-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	var all []string
	for _, e := range entries {
		p := path.Join(NetnsDir, e.Name())
		if shape.MatchString(e.Name()) && !f.Before.HadPath(p) {
			all = append(all, p)
		}
	}
	return all, err
}

// removeNamespaces unmounts and removes the namespaces that findNamespaces returns.
func (f networkFinder) removeNamespaces(ctx context.Context) error {
	all, err := f.findNamespaces(ctx)
	if err != nil {
		return err
	}
	return ForEach(all, func(p string) error {
		// The namespace may be mounted more than once (/run/netns is often a shared mount), or no
		// longer be mounted.
		for range 8 {
			table, err := f.MountTable()
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(table, func(m Mount) bool { return m.Point == p }) {
				break
			}
			if err := f.Execute(ctx, "umount", p); err != nil {
				return err
			}
		}
		return f.RemoveAll(p)
	})
}

// routeInfo is an entry in the output of `ip -j route` or `ip -j rule`.
type routeInfo struct {
	Dst      string `json:"dst"`
	Priority int    `json:"priority"`
	Src      string `json:"src"`
	SrcLen   *int   `json:"srclen"`
	Table    string `json:"table"`
}

// findRoutes returns the routes of kube-router to the pods of other nodes (protocol 17), and the
// rules that send the packets of pods through its table 77. Routes over its links are removed with
// the links. Each entry is the arguments of the `ip` command that removes it.
func (f networkFinder) findRoutes(ctx context.Context) ([]string, error) {
	var all []string
	for _, family := range []string{"-4", "-6"} {
		var routes, rules []routeInfo
		if err := f.queryJSON(ctx, &routes, "ip", family, "-j", "route", "show", "proto", "17"); err != nil {
			return nil, err
		}
		if err := f.queryJSON(ctx, &rules, "ip", family, "-j", "rule", "show"); err != nil {
			return nil, err
		}
		for _, r := range routes {
			if f.InPodNetwork(r.Dst) {
				all = append(all, family+" route delete "+r.Dst+" proto 17")
			}
		}
		for _, r := range rules {
			src := r.Src
			if r.SrcLen != nil {
				src += "/" + strconv.Itoa(*r.SrcLen)
			}
			if (r.Table == "77" || r.Table == "kube-router") && f.InPodNetwork(src) {
				all = append(all, family+" rule delete from "+src+" lookup "+r.Table)
			}
		}
	}
	return all, nil
}

// queryJSON runs a command that changes nothing and decodes its output. Empty output is not an
// error: a kernel without IPv6 has no routes.
func (f networkFinder) queryJSON(ctx context.Context, into any, argv ...string) error {
	out, err := f.Query(ctx, argv...)
	if err != nil || len(strings.TrimSpace(string(out))) == 0 {
		return err
	}
	return json.Unmarshal(out, into)
}

// removeRoutes deletes the routes and rules that findRoutes returns.
func (f networkFinder) removeRoutes(ctx context.Context) error {
	all, err := f.findRoutes(ctx)
	if err != nil {
		return err
	}
	return ForEach(all, func(args string) error {
		return f.Execute(ctx, append([]string{"ip"}, strings.Fields(args)...)...)
	})
}
