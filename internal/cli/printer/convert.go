package printer

import (
	"fmt"
	"io"
	"strings"

	"github.com/plinthdev/plinth/internal/kurl"
	"github.com/plinthdev/plinth/internal/ui"
)

// conversionColumns is the longest line of the comments in a converted Installer. They
// are wrapped here, because a line that the terminal wraps is not a comment any more.
const conversionColumns = 78

// WriteConversion writes a converted Installer: YAML whose comments list every key of
// the kURL Installer in the file from.
func WriteConversion(w io.Writer, c kurl.Conversion, from string) {
	fmt.Fprintf(w, "# Converted from the kURL Installer %s.\n# Every key of it, and what became of it:\n", ui.CleanLine(from))
	titles := map[kurl.Verdict]string{kurl.ByHand: "To do by hand", kurl.Unknown: "Unknown to kURL", kurl.TakenOver: "Taken over",
		kurl.BuiltIn: "Built in: Plinth needs no setting", kurl.Dropped: "Dropped"}
	for _, v := range kurl.Verdicts() {
		title := "#\n# " + titles[v] + "\n"
		for _, k := range c.Keys {
			if k.Verdict == v {
				fmt.Fprint(w, title)
				writeComment(w, k.Path+": "+k.Note)
				title = ""
			}
		}
	}
	fmt.Fprintf(w, "#\n# Next: plinth lint installer.yaml application.yaml\n%s", c.YAML)
}

// writeComment writes text as the wrapped item of a list in YAML comments.
func writeComment(w io.Writer, text string) {
	const first, next = "#   ", "#     "
	line := first
	for word := range strings.FieldsSeq(ui.CleanLine(text)) {
		if len(line)+len(word) > conversionColumns && strings.TrimLeft(line, "# ") != "" {
			fmt.Fprintln(w, strings.TrimRight(line, " "))
			line = next
		}
		line += word + " "
	}
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}
