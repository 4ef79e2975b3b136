package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// globals are the flags that every command takes.
type globals struct {
	format       format
	progressMode choice
	logFile      string
	dataDir      string
	noColor      bool
	verbose      bool
}

// format is the value of --output.
type format = choice

const (
	formatText format = "text"
	formatJSON format = "json"
)

// choice is a flag that takes one of a few words; the words are its type.
type choice string

// choices makes a pflag.Value of *c that takes one of words.
type choices struct {
	value *choice
	words []string
}

var _ pflag.Value = choices{}

func (c choices) String() string { return string(*c.value) }
func (c choices) Type() string   { return strings.Join(c.words, "|") }
func (c choices) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("it must be one of %s", strings.Join(c.words, ", "))
	}
	*c.value = choice(s)
	return nil
}
