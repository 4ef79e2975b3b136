package printer

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action/certificates"
	"github.com/plinthdev/plinth/internal/ui"
)

// WriteCertificateList writes a table of certificates.
func WriteCertificateList(w io.Writer, v certificates.Inventory) {
	t := newTable(w, "NAME", "OWNER", "ENDS", "LEFT", "RENEWED BY", "RESTARTS", "LOCATION")
	due := false
	for _, c := range v.Certificates {
		by := string(c.RenewedBy)
		switch {
		case c.Authority:
			by = "- (authority)"
		case c.RenewedBy == certificates.ByNone:
			by = "- (not used)"
		}
		if c.Due {
			due, by = true, by+", due now"
		}
		ends, left := c.Ends.Format(time.DateOnly), describeDaysLeft(c.DaysLeft)
		if c.Problem != "" {
			ends, left = "unknown", c.Problem
		}
		writeRow(t, c.Name, c.Owner, ends, left, by, c.Restarts, c.Location)
	}
	_ = t.Flush()
	if due {
		writeNextCommand(w, "plinth certificates renew --plan")
		return
	}
	writeNextCommand(w, "plinth status")
}

// describeDaysLeft returns how many days a certificate has left, in words.
func describeDaysLeft(days int) string {
	switch {
	case days < 0:
		return "ended"
	case days == 0:
		return "less than a day"
	}
	return ui.FormatCount(days, "day")
}

// WriteRenewalResult writes what a renewal did, or its plan. again is the command line without --plan.
func WriteRenewalResult(w io.Writer, r certificates.Result, again string) {
	if r.Skipped != "" {
		fmt.Fprintf(w, "k0s keeps its certificates for now: %s\n", r.Skipped)
	}
	switch {
	case r.Plan != nil:
		writePlan(w, r.Plan, again)
		return
	case !r.Changed:
		fmt.Fprintln(w, "Nothing to do: no certificate is due. To renew them now, name them, or use --all.")
	default:
		fmt.Fprintf(w, "Renewed %s\n", strings.Join(r.Renewed, ", "))
	}
	if r.Log != "" {
		fmt.Fprintf(w, "Log  %s\n", r.Log)
	}
	writeNextCommand(w, "plinth certificates list")
}
