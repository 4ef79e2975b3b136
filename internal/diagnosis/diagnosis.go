// Package diagnosis names the likely causes of what does not work on a host and in its
// cluster: a table of rules over a snapshot of both. It reads nothing itself, so a test can
// use the snapshot of any failure, and a later version the one in a support bundle.
package diagnosis

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Severity is how much a finding matters now.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // something does not work because of it
	Warning Severity = "warning" // everything may still work, or it is a trace of something that is over
)

// Rule is one cause of failures, and how to recognize it.
type Rule struct {
	ID      string // kebab-case, unique and stable
	Area    string // heading; areas are ordered so that causes come before their effects
	Culprit string // what is wrong, in one line
	Symptom string // how users notice it
	Fix     string // what to do, one command or step a line

	// Warning makes every finding of the rule a warning.
	Warning bool
	// Logs are lines that show the cause. They are an error only while something does not work
	// that their program serves: a line may tell of what is over.
	Logs []LogPattern
	// Find returns the evidence in the rest of the snapshot; nil if only logs show it.
	Find func(s Snapshot) []Evidence
}

// LogPattern is a kind of line in a log.
type LogPattern struct {
	Source string // one of the Log names; LogPods stands for the logs of all pods
	Match  string // regular expression (RE2)
	Unless string // regular expression of lines that do not count; "" for none
	Min    int    // number of lines from which it counts; 0 for 1

	// Level is the least level of lines of k0s that count; LevelUnknown for LevelError. Lines without a level always do.
	Level Level
	// Hint makes it a warning, and counts recent lines only: hosts that work log such lines, too, while they are busy.
	Hint bool
}

// Evidence is one observation that shows a cause.
type Evidence struct {
	Text    string
	Fix     string // replaces that of the rule; "" for that
	Warning bool   // it does not stop anything now
}

// Finding is a rule that applies, with its evidence. Its JSON format is public.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	Culprit  string   `json:"culprit"`
	Evidence []string `json:"evidence"`
	Fix      string   `json:"fix"`
}

// maxEvidence is the number of observations that a finding lists.
const maxEvidence = 4

// Diagnose returns the findings of all rules, most likely cause first: errors before
// warnings, and within them in the order of the rules, where a cause comes before its effects.
func Diagnose(s Snapshot) []Finding {
	s = s.withCurrentRun()
	var all []Finding
	for _, r := range Rules() {
		if f, ok := r.apply(s); ok {
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Compare(a.rank(), b.rank()) })
	return all
}

// rank returns 0 for an error and 1 for a warning.
func (f Finding) rank() int {
	if f.Severity == Error {
		return 0
	}
	return 1
}

// apply returns the finding of r in s; ok is false if it does not apply.
func (r Rule) apply(s Snapshot) (f Finding, ok bool) {
	var found []Evidence
	if r.Find != nil {
		found = r.Find(s)
	}
	for _, p := range r.Logs {
		found = append(found, p.find(s)...)
	}
	if len(found) == 0 {
		return Finding{}, false
	}
	f = Finding{Rule: r.ID, Severity: Warning, Culprit: r.Culprit}
	var fixes []string
	for _, e := range found {
		if !e.Warning && !r.Warning {
			f.Severity = Error
		}
		if !slices.Contains(f.Evidence, e.Text) {
			f.Evidence = append(f.Evidence, e.Text)
		}
		if fix := cmp.Or(e.Fix, r.Fix); !slices.Contains(fixes, fix) && len(fixes) < maxEvidence {
			fixes = append(fixes, fix)
		}
	}
	if more := len(f.Evidence) - maxEvidence; more > 0 {
		f.Evidence = append(f.Evidence[:maxEvidence:maxEvidence], fmt.Sprintf("and %d more", more))
	}
	f.Fix = strings.Join(fixes, "\n")
	return f, true
}

// Ages up to which a line of a log counts as an error, back from the newest line of k0s or the end of k0s.
const (
	// recentLines is that of lines of a k0s that does not run.
	recentLines = 15 * time.Minute
	// recentLinesRunning is that of lines of a k0s that runs: it logs again within minutes what still fails, and while it
	// starts, its parts do not reach each other yet.
	recentLinesRunning = 5 * time.Minute
	// recentMessages is that of lines of the kernel and of the services that set the clock, which log some of them at boot.
	recentMessages = time.Hour
)

// find returns the newest line that matches, for each log of p's source.
func (p LogPattern) find(s Snapshot) (found []Evidence) {
	matters, since := p.relevance(s)
	match := regexp.MustCompile(p.Match)
	var unless *regexp.Regexp
	if p.Unless != "" {
		unless = regexp.MustCompile(p.Unless)
	}
	for _, name := range s.logsOf(p.Source) {
		lines := s.Logs[name]
		count, last := 0, Line{}
		for _, l := range lines {
			if p.Hint && l.Time.Before(since) {
				continue
			}
			if match.MatchString(l.Text) && (unless == nil || !unless.MatchString(l.Text)) && p.hasLevel(l) {
				count, last = count+1, l
			}
		}
		if count >= max(p.Min, 1) {
			old := !last.Time.IsZero() && last.Time.Before(since)
			found = append(found, Evidence{Text: describeLine(name, last, count), Warning: !matters || old || p.Hint})
		}
	}
	return found
}

// relevance reports whether lines of p's source may tell why something does not work, and from which time on; the zero time
// is any.
func (p LogPattern) relevance(s Snapshot) (matters bool, since time.Time) {
	ended := s.Time
	if lines := s.Logs[LogK0s]; len(lines) > 0 && (p.Source == LogK0s || !s.K0s.Running()) {
		ended = lines[len(lines)-1].Time
	}
	switch {
	case p.Source == LogK0s && s.K0s.Running():
		return s.k0sLinesMatter(), ended.Add(-recentLinesRunning)
	case p.Source == LogK0s:
		return s.k0sLinesMatter(), ended.Add(-recentLines)
	case p.Source == LogKernel || p.Source == LogTime:
		return s.impaired(), ended.Add(-recentMessages)
	case p.Source == LogAgent:
		return s.hostImpaired(), time.Time{}
	}
	return s.impaired(), time.Time{}
}

// hasLevel reports whether the level of a line is high enough for p.
func (p LogPattern) hasLevel(l Line) bool {
	if p.Source != LogK0s {
		return true
	}
	level, _ := parseLine(l.Text)
	return level == LevelUnknown || level >= cmp.Or(p.Level, LevelError)
}

// describeLine returns line, the newest of count in the log name, with its source and time.
func describeLine(name string, line Line, count int) string {
	text := name
	if !line.Time.IsZero() {
		text += " at " + line.Time.UTC().Format("2006-01-02 15:04:05Z")
	}
	text += ": " + shorten(line.Text)
	if count > 1 {
		text += fmt.Sprintf(" (%d such lines)", count)
	}
	return text
}

// maxLineLength is the number of characters that evidence shows of a line.
const maxLineLength = 300

// shorten returns the text of a line of a log in one line of limited length.
func shorten(text string) string {
	_, text = parseLine(text)
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > maxLineLength {
		text = string(runes[:maxLineLength]) + "…"
	}
	return text
}

// Rules returns all rules: causes before their effects.
func Rules() []Rule {
	return slices.Concat(diskRules(), memoryRules(), clockRules(), identityRules(), kernelRules(), networkRules(), packetFilterRules(),
		dnsRules(), k0sRules(), certificateRules(), etcdRules(), apiRules(), nodeRules(), storageRules(), schedulingRules(), imageRules(), podRules(),
		policyRules(), objectRules(), runRules())
}
