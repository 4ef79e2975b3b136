package printer

import "testing"

func TestAddSudo_BeforeCommandsThatNeedRoot(t *testing.T) {
	for text, want := range map[string]string{
		"\nNext: plinth status\n":                          "\nNext: sudo plinth status\n",
		"Next: sudo plinth status":                         "Next: sudo plinth status",
		"(`plinth kubectl` uses it)":                       "(`sudo plinth kubectl` uses it)",
		"check: plinth --data-dir /d status; plinth lint":  "check: sudo plinth --data-dir /d status; plinth lint",
		"plinth bundle verify a.bundle":                    "plinth bundle verify a.bundle",
		"echo TOKEN | sudo plinth join -":                  "echo TOKEN | sudo plinth join -",
		"plinth reset node   (on b)":                       "sudo plinth reset node   (on b)",
		"unexpected: my-plinth install, /srv/plinth reset": "unexpected: my-plinth install, /srv/plinth reset",
	} {
		t.Run(text, func(t *testing.T) {
			if got := AddSudo(text); got != want || AddSudo(got) != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestNeedsSudo_UnlessTheShellIsRoots(t *testing.T) {
	for name, c := range map[string]struct {
		uid     int
		environ []string
		want    bool
	}{
		"a user":         {1000, nil, true},
		"root":           {0, []string{"HOME=/root"}, false},
		"a user by sudo": {0, []string{"SUDO_UID=1000"}, true},
		"root by sudo":   {0, []string{"SUDO_UID=0"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := NeedsSudo(c.uid, c.environ); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}
