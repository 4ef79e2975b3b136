package ui

import "testing"

func TestMask_HidesPasswordsOfURLsOfAnyLength(t *testing.T) {
	for text, want := range map[string]string{
		"get https://u:a@example.com/x":     "get https://u:***@example.com/x",
		"get https://:abc@example.com":      "get https://:***@example.com",
		"get https://u:hunter2@example.com": "get https://u:***@example.com",
		"write to a@example.com":            "write to a@example.com",
		"get https://example.com:443/x@y:z": "get https://example.com:443/x@y:z",
	} {
		t.Run(text, func(t *testing.T) {
			var none *Secrets
			if got := none.Mask(text); got != want {
				t.Errorf("%s", got)
			}
			if got := (&Secrets{}).Mask(text); got != want {
				t.Errorf("%s", got)
			}
		})
	}
}
