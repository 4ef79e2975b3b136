package bundle

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// A program that has to name its images, but is missing, does not hide what else a folder lacks.
func TestLock_NamesAllMissingPartsOfAFolder(t *testing.T) {
	raw, err := os.ReadFile(documented)
	testkit.Must(t, err)
	installer := write(t, strings.ReplaceAll(string(raw), "v1.33.8+k0s.1", "v1.36.9+k0s.0"))
	_, err = Lock(t.Context(), LockRequest{Installer: installer, Source: airgaptest.WriteLayout(t, nil, nil)})
	for _, part := range []string{"v1.36.9+k0s.0", "1.131.2", "local-path-provisioner"} {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("%v lacks %s", err, part)
		}
	}
	if hint := problem.Hint(err); !strings.Contains(hint, "plinth bundle mirror") || strings.Contains(hint, "run this on linux") {
		t.Errorf("%s", hint)
	}
}
