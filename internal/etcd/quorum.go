package etcd

import "fmt"

// Removal is the effect of removing one member from the cluster.
type Removal struct {
	Remaining   int    // voting members after the removal
	Healthy     int    // members of those that are healthy now
	Needed      int    // healthy members that a quorum needs
	LosesQuorum bool   // the cluster loses its quorum, or its last member
	Message     string // the consequence for the user; "" if there is none
}

// SimulateRemoval returns the effect of removing the member with this id;
// serves reports whether another member is healthy. Learners are not counted.
func SimulateRemoval(members []Member, id string, serves func(Member) bool) Removal {
	var r Removal
	for _, m := range members {
		if m.ID == id || m.Learner {
			continue
		}
		r.Remaining++
		if serves(m) {
			r.Healthy++
		}
	}
	r.Needed = r.Remaining/2 + 1
	switch {
	case r.Remaining == 0:
		r.LosesQuorum, r.Message = true, "it is the last controller: without it the cluster no longer exists"
	case r.Healthy < r.Needed:
		r.LosesQuorum = true
		r.Message = fmt.Sprintf("only %d of the %d controllers that are left would serve, and %d have to: the API would stop, and nothing in the cluster could be changed until more come back", r.Healthy, r.Remaining, r.Needed)
	case r.Healthy == r.Needed:
		r.Message = fmt.Sprintf("%s left, and none of them may fail without stopping the cluster", controllersLeft(r.Remaining))
	}
	return r
}

func controllersLeft(n int) string {
	if n == 1 {
		return "1 controller is"
	}
	return fmt.Sprintf("%d controllers are", n)
}
