package etcd

import (
	"context"
	"strings"
)

// Status is the state of the local member's database.
type Status struct {
	DBSize int64    // bytes of its file
	InUse  int64    // bytes of the file that are in use
	Alarms []string // such as "NOSPACE" and "CORRUPT"
}

// Status returns the state of the local member's database.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var reply struct {
		DBSize int64    `json:"dbSize,string"`
		InUse  int64    `json:"dbSizeInUse,string"`
		Errors []string `json:"errors"` // "memberID:… alarm:NOSPACE "
	}
	if err := c.postJSON(ctx, "/v3/maintenance/status", map[string]any{}, &reply); err != nil {
		return Status{}, err
	}
	s := Status{DBSize: reply.DBSize, InUse: reply.InUse}
	for _, text := range reply.Errors {
		if _, alarm, ok := strings.Cut(text, "alarm:"); ok {
			s.Alarms = append(s.Alarms, strings.TrimSpace(alarm))
		}
	}
	return s, nil
}
