// Package resets owns how the outcome of a reset is written for a person: what
// it would take back, grouped and folded, what it did, what is left. It refuses
// to decide anything; the full lists are in the JSON form.
package resets

import (
	"fmt"
	"io"
	"strings"

	"github.com/plinthdev/plinth/internal/app/reset"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui"
)

// Write says what a reset would take back, did take back, or left. again is the
// command line without what made it only look; failed says that it did not
// reach its end.
func Write(w io.Writer, r reset.Result, again string, failed bool) {
	switch {
	case len(r.Left) > 0:
		list(w, "Left on this host:", r.Left)
	case failed:
	case r.Plan != nil:
		plan(w, r, again)
	case r.Changed:
		done(w, r)
	default:
		fmt.Fprintln(w, "Nothing to do: Plinth has installed nothing on this host.")
		list(w, "Kept:", r.Kept)
		next(w, "plinth install --bundle FILE")
	}
}

func done(w io.Writer, r reset.Result) {
	if r.Node == "" {
		fmt.Fprintln(w, "The cluster is gone from this host.")
	} else {
		fmt.Fprintf(w, "This host is no node of %s any more, and what made it one is gone from it.\n", r.Cluster)
	}
	proved(w, r.Proof)
	fmt.Fprintf(w, "Log  %s\n", r.Log)
	list(w, "Kept:", r.Kept)
	switch {
	case len(r.Remains) > 0:
		list(w, "The cluster has not been told. On one of its controllers:", r.Remains)
		next(w, r.Remains[0]+"   (on a controller)")
	case r.Node != "":
		next(w, "plinth node list   (on another node)")
	default:
		next(w, "plinth install --bundle FILE")
	}
}

// proved says how the host compares to what it was.
func proved(w io.Writer, p *reset.Proof) {
	if p == nil {
		return
	}
	fmt.Fprintf(w, "Nothing left: of %s seen before the install, none differs because of it.\n", answer.Count(p.Compared, "thing"))
	const some = 10
	if len(p.Since) > 0 {
		list(w, "Not the cluster's, but different since: "+answer.Count(len(p.Since), "thing"), p.Since[:min(some, len(p.Since))])
	}
}

// plan shows each kind of thing that would go, with what is there of it.
func plan(w io.Writer, r reset.Result, again string) {
	var gone []string // kinds of which there is nothing
	todo, total := 0, int64(0)
	for _, s := range r.Plan {
		if s.State == "done" {
			gone = append(gone, s.Title)
			continue
		}
		todo++
		total += s.Bytes
		fmt.Fprintln(w, heading(s))
		for _, line := range fold(s.Step, s.Touches) {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
	if todo == 0 {
		fmt.Fprintln(w, "Nothing to take back.")
	} else if len(gone) > 0 {
		fmt.Fprintf(w, "Nothing there to: %s\n", strings.Join(lowered(gone), ", "))
	}
	list(w, "Would be kept:", r.Kept)
	list(w, "The cluster would not be told. On one of its controllers is then to be typed:", r.Remains)
	if todo == 0 {
		next(w, "plinth install --bundle FILE")
		return
	}
	fmt.Fprintf(w, "\n%s on disk would be freed; nothing was changed. The full list: -o json\n", ui.Bytes(total))
	next(w, again)
}

// heading is "Unmount what the cluster mounted: 54", or with the size of files.
func heading(s step.Planned) string {
	switch {
	case s.Bytes > 0:
		return s.Title + ": " + ui.Bytes(s.Bytes)
	case len(s.Touches) > 1:
		return fmt.Sprintf("%s: %d", s.Title, len(s.Touches))
	}
	return s.Title
}

func lowered(titles []string) []string {
	all := make([]string, 0, len(titles))
	for _, t := range titles {
		all = append(all, strings.ToLower(t[:1])+t[1:])
	}
	return all
}

func list(w io.Writer, title string, all []string) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w, title)
	for _, what := range all {
		fmt.Fprintf(w, "  %s\n", what)
	}
}

// next ends an answer with what to type now.
func next(w io.Writer, command string) { fmt.Fprintf(w, "\nNext: %s\n", command) }
