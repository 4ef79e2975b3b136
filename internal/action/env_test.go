package action

import (
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestDataDirRefusal_KeepsAHostToOneDataFolder(t *testing.T) {
	for name, c := range map[string]struct {
		installed string // data folder of an install; "" for none
		pointer   bool   // the host records it
		flag      string // --data-dir
		want      string // part of the refusal; "" for none
	}{
		"nothing is installed":                    {"", false, "/srv/plinth", ""},
		"the default one":                         {journal.DefaultDir, false, journal.DefaultDir, ""},
		"another one than the default one in use": {journal.DefaultDir, false, "/srv/plinth", "this host's data folder is /var/lib/plinth, not /srv/plinth"},
		"the one in use":                          {"/srv/plinth", true, "/srv/plinth", ""},
		"another one than the one in use":         {"/srv/plinth", true, journal.DefaultDir, "this host's data folder is /srv/plinth, not /var/lib/plinth"},
	} {
		t.Run(name, func(t *testing.T) {
			env := &Env{Host: hosttest.New(t).Host(), GlobalOptions: GlobalOptions{DataDir: c.flag}}
			if c.installed != "" {
				j, err := journal.Open(env.Host, c.installed, time.Now)
				testkit.Must(t, err)
				testkit.Must(t, j.BeginRun("install", journal.Args{}), j.EndRun(nil))
			}
			if c.pointer {
				testkit.Must(t, env.Host.Write(journal.PointerFile, strings.NewReader(c.installed+"\n"), 0o644))
			}
			why, fix := env.DataDirRefusal()
			if (why == "") != (c.want == "") || !strings.Contains(why, c.want) || why != "" && fix != "omit --data-dir" {
				t.Errorf("%q, %q; want %q", why, fix, c.want)
			}
		})
	}
}
