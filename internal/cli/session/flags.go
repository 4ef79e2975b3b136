package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// globalFlags holds the values of the flags that every command accepts.
type globals struct {
	format       format
	progressMode choice
	logFile      string
	dataDir      string
	noColor      bool
	verbose      bool
}

// outputFormat is the value of --output.
type format = choice

const (
	formatText format = "text"
	formatJSON format = "json"
)

// enumValue is the value of a flag that accepts a fixed set of words.
type choice string

// enumFlag is a pflag.Value that stores one of the allowed words in *value.
type choices struct {
	value *choice
	words []string
}

var _ pflag.Value = choices{}

func (c choices) String() string { return string(*c.value) }
func (c choices) Type() string   { return strings.Join(c.words, "|") }
func (c choices) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("must be one of %s", strings.Join(c.words, ", "))
	}
	*c.value = choice(s)
	return nil
}
