package etcd

import "fmt"

// Removal is the effect of removing one member from the cluster.
type Removal struct {
	Left    int    // voting members after the removal
	Healthy int    // members of those that are healthy now
	Needed  int    // healthy members that a quorum needs
	Breaks  bool   // the cluster loses its quorum, or its last member
	Says    string // the consequence for the user; "" if there is none
}

// SimulateRemoval returns the effect of removing the member with this id;
// serves reports whether another member is healthy. Learners are not counted.
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
		r.Breaks, r.Says = true, "it is the last controller: without it the cluster no longer exists"
	case r.Healthy < r.Needed:
		r.Breaks = true
		r.Says = fmt.Sprintf("only %d of the %d controllers that are left would serve, and %d have to: the API would stop, and nothing in the cluster could be changed until more come back", r.Healthy, r.Left, r.Needed)
	case r.Healthy == r.Needed:
		r.Says = fmt.Sprintf("%s left, and none of them may fail without stopping the cluster", controllers(r.Left))
	}
	return r
}

func controllers(n int) string {
	if n == 1 {
		return "1 controller is"
	}
	return fmt.Sprintf("%d controllers are", n)
}
