package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/cli/teach"
	"github.com/plinthdev/plinth/internal/problem"
)

// build says which build this is; its JSON form is public.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"` // of the commit, RFC 3339
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"` // os/arch
}

func (s *session) version() *cobra.Command {
	return s.command("version", noArgs, func(context.Context, []string) (reply, error) {
		b := s.build()
		return reply{data: b, text: b.text}, nil
	})
}

// build says which build this is.
func (s *session) build() build {
	b := build{Version: s.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.read(info)
	}
	return b
}

// read takes from info what the linker was not told.
func (b *build) read(info *debug.BuildInfo) {
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
}

func (b *build) text(w io.Writer) {
	fmt.Fprintf(w, "plinth %s\n", b.Version)
	if b.Commit != "" {
		changed := ""
		if b.Modified {
			changed = ", with changes"
		}
		fmt.Fprintf(w, "commit %s of %s%s\n", b.Commit, b.Date, changed)
	}
	fmt.Fprintf(w, "%s, %s\n", b.Go, b.Platform)
}

func (s *session) completion() *cobra.Command {
	var root *cobra.Command
	scripts := map[string]func(io.Writer) error{
		"bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":  func(w io.Writer) error { return root.GenZshCompletion(w) },
		"fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
	}
	cmd := s.command("completion bash|zsh|fish", exactly("a shell"), nil)
	cmd.ValidArgs = []string{"bash", "zsh", "fish"}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		root = cmd.Root()
		generate, ok := scripts[args[0]]
		if !ok {
			return &unknownError{what: "shell", name: args[0], near: teach.Nearest(args[0], cmd.ValidArgs)}
		}
		s.parsed = true
		if err := generate(s.Out); err != nil {
			return problem.New(problem.ExitInternal, "write the completion script", err, "")
		}
		return nil
	}
	return cmd
}
