package etcd

import (
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"
)

func TestStatus_ReportsSizeAndAlarms(t *testing.T) {
	c, _ := newGateway(t, map[string]string{"/v3/maintenance/status": `{"leader":"1","dbSize":"2147483648","dbSizeInUse":"1000","errors":["memberID:1 alarm:NOSPACE "]}`})
	s, err := c.Status(t.Context())
	testkit.Must(t, err)
	if s.DBSize != 2<<30 || s.InUse != 1000 || !slices.Equal(s.Alarms, []string{"NOSPACE"}) {
		t.Errorf("%+v", s)
	}
}
