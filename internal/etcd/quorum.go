package etcd

import "fmt"

// Removal is what removing one member does to the cluster.
type Removal struct {
	Left    int    // members afterwards
	Healthy int    // of those, that serve now
	Needed  int    // that have to serve for the cluster to work
	Breaks  bool   // the cluster stops, or is gone
	Says    string // the consequence, in words; "" when nothing is lost
}

// Judge says what removing the member with id does; serves tells of each other
// member whether it serves.
func Judge(members []Member, id string, serves func(Member) bool) Removal {
	var r Removal
	for _, m := range members {
		if m.ID == id || m.Learner {
			continue
		}
		r.Left++
		if serves(m) {
			r.Healthy++
		}
	}
	r.Needed = r.Left/2 + 1
	switch {
	case r.Left == 0:
		r.Breaks, r.Says = true, "it is the last controller: without it there is no cluster"
	case r.Healthy < r.Needed:
		r.Breaks = true
		r.Says = fmt.Sprintf("only %d of the %d controllers that are left would serve, and %d have to: the API would stop, and nothing in the cluster could be changed until more come back", r.Healthy, r.Left, r.Needed)
	case r.Healthy == r.Needed:
		r.Says = fmt.Sprintf("%s left, and none of them may fail any more", controllers(r.Left))
	}
	return r
}

func controllers(n int) string {
	if n == 1 {
		return "1 controller is"
	}
	return fmt.Sprintf("%d controllers are", n)
}
