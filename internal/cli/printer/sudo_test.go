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
