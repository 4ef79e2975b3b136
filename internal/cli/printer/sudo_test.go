package printer

import "testing"

func TestAddSudo_BeforeCommandsThatNeedRoot(t *testing.T) {
	for text, want := range map[string]string{
		"\nNext: plinth status\n":                          "\nNext: sudo plinth status\n",
		"Next: sudo plinth status":                         "Next: sudo plinth status",
		"(`plinth kubectl` uses it)":                       "(`sudo plinth kubectl` uses it)",
		"check: plinth --data-dir /d status; plinth lint":  "check: sudo plinth --data-dir /d status; plinth lint",
		"\nNext: plinth diagnose\n":                        "\nNext: sudo plinth diagnose\n",
		"plinth certificates list; plinth addons list":     "sudo plinth certificates list; plinth addons list",
		"plinth bundle verify a.bundle":                    "plinth bundle verify a.bundle",
		"plinth backup verify s3://b/a.plinth-backup":      "sudo plinth backup verify s3://b/a.plinth-backup",
		"echo TOKEN | sudo plinth join -":                  "echo TOKEN | sudo plinth join -",
		"\nNext: plinth support-bundle\n":                  "\nNext: sudo plinth support-bundle\n",
		"More: plinth diagnose":                            "More: sudo plinth diagnose",
		"finish it: plinth upgrade --bundle FILE":          "finish it: sudo plinth upgrade --bundle FILE",
		"plinth certificates renew --plan":                 "sudo plinth certificates renew --plan",
		"run the same `plinth repair address` again":       "run the same `sudo plinth repair address` again",
		"plinth addons show NAME":                          "plinth addons show NAME",
		"plinth install --existing-cluster --plan":         "plinth install --existing-cluster --plan",
		"plinth reset node   (on b)":                       "sudo plinth reset node   (on b)",
		"unexpected: my-plinth install, /srv/plinth reset": "unexpected: my-plinth install, /srv/plinth reset",
	} {
		t.Run(text, func(t *testing.T) {
			if got := AddSudo(text, false); got != want || AddSudo(got, false) != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestAddSudo_KeepsTheEnvironmentForAnObjectStore(t *testing.T) {
	for text, want := range map[string]string{
		"\nNext: plinth backup verify s3://b/a.plinth-backup\n":    "\nNext: sudo -E plinth backup verify s3://b/a.plinth-backup\n",
		"Next: sudo plinth restore --from s3://b --bundle b":       "Next: sudo -E plinth restore --from s3://b --bundle b",
		"s3://b/a: 12 MB\nNext: plinth backup verify /a\n":         "s3://b/a: 12 MB\nNext: sudo plinth backup verify /a\n",
		"plinth backup list s3://b --s3-endpoint https://store:90": "sudo -E plinth backup list s3://b --s3-endpoint https://store:90",
	} {
		t.Run(text, func(t *testing.T) {
			if got := AddSudo(text, true); got != want || AddSudo(got, true) != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestNameProgram_ChangesOnlyCommandsForThisHost(t *testing.T) {
	for text, want := range map[string]string{
		"\nNext: plinth install --bundle FILE\n":                   "\nNext: ./my-plinth install --bundle FILE\n",
		"(reasons: sudo plinth preflight -v)\n":                    "(reasons: sudo ./my-plinth preflight -v)\n",
		"run: sudo plinth status, then `plinth reset cluster`":     "run: sudo ./my-plinth status, then `./my-plinth reset cluster`",
		"use another copy: plinth backup list FOLDER":              "use another copy: ./my-plinth backup list FOLDER",
		"upgrade it: plinth upgrade --bundle B; plinth diagnose":   "upgrade it: ./my-plinth upgrade --bundle B; ./my-plinth diagnose",
		"restore it there: sudo plinth restore --control-plane F":  "restore it there: sudo plinth restore --control-plane F",
		"→ see: plinth --help":                                     "→ see: ./my-plinth --help",
		"→ see: plinth bundle verify --help":                       "→ see: ./my-plinth bundle verify --help",
		"check: plinth --data-dir /d status":                       "check: ./my-plinth --data-dir /d status",
		"Next: echo TOKEN | sudo plinth join -":                    "Next: echo TOKEN | sudo ./my-plinth join -",
		"Next: plinth node list   (on another node)":               "Next: plinth node list   (on another node)",
		"`plinth token create` on a controller prints a token":     "`plinth token create` on a controller prints a token",
		"On a controller, run:\n  plinth node remove n1":           "On a controller, run:\n  plinth node remove n1",
		"Plinth has not installed anything; plinth is not a word.": "Plinth has not installed anything; plinth is not a word.",
		"/usr/local/bin/plinth status, ./plinth status":            "/usr/local/bin/plinth status, ./plinth status",
	} {
		t.Run(text, func(t *testing.T) {
			if got := NameProgram(text, "./my-plinth"); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
	t.Run("a name with a space", func(t *testing.T) {
		if got := NameProgram("plinth status", "/opt/my app/plinth"); got != "'/opt/my app/plinth' status" {
			t.Errorf("%q", got)
		}
	})
}
