// Command plinth turns a Linux machine into a Kubernetes cluster with the KOTS admin console.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/plinthdev/plinth/internal/cli"
)

// version is set by the linker (-X main.version=…); empty in builds without it.
var version string

func main() {
	log.SetOutput(io.Discard) // libraries log to it: Helm, for example, logs each symbolic link in a chart
	ctx, cancel := context.WithCancelCause(context.Background())
	// The first signal requests a safe stop, the second ends the process at once.
	// SIGPIPE is caught so that a lost terminal only fails the write and does not
	// kill the process in the middle of a step.
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	code := make(chan int, 1)
	go func() {
		process := cli.Process{Name: filepath.Base(os.Args[0]), In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ(),
			Version: version, ErrNoReader: syscall.EPIPE, Exec: syscall.Exec, NeedsSudo: cli.NeedsSudo(os.Geteuid(), os.Environ()),
			CommandName: func() string { return cli.CommandName(os.Args[0]) }}
		code <- cli.Run(ctx, process, os.Args[1:])
	}()
	go func() {
		<-stop
		cancel(cli.ErrInterrupted)
		<-stop
		code <- cli.ExitInterrupted
	}()
	os.Exit(<-code)
}
