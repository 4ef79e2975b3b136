package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// globalFlags holds the values of the flags that every command accepts.
type globalFlags struct {
	outputFormat outputFormat
	progressMode enumValue
	logFile      string
	dataDir      string
	noColor      bool
	verbose      bool
}

// outputFormat is the value of --output.
type outputFormat = enumValue

const (
	formatText outputFormat = "text"
	formatJSON outputFormat = "json"
)

// enumValue is the value of a flag that accepts a fixed set of words.
type enumValue string

// enumFlag is a pflag.Value that stores one of the allowed words in *value.
type enumFlag struct {
	value   *enumValue
	allowed []string
}

var _ pflag.Value = enumFlag{}

func (c enumFlag) String() string { return string(*c.value) }
func (c enumFlag) Type() string   { return strings.Join(c.allowed, "|") }
func (c enumFlag) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return fmt.Errorf("must be one of %s", strings.Join(c.allowed, ", "))
	}
	*c.value = enumValue(s)
	return nil
}
