package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/cli/printer"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui"
)

func (s commandSet) backupCommand() *cobra.Command {
	var opts backup.Options
	cmd := s.NewCommand("backup --to FILE|FOLDER|s3://…", onlySubcommands(requireFlags(noArgs, "to")), s.WithEnv(eventStream, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			if opts.Keep < 0 {
				return commandOutput{}, problem.Newf(problem.ExitUsage, "use the value of --keep", "give the number of backups to keep",
					"%d is negative", opts.Keep)
			}
			s.prepareKeyFlags(&opts.Lock)
			given := opts.Store
			opts.Store = given.WithEnvironment(os.Getenv)
			opts.Scheduled = lookupVariable(s.Environ, backup.ScheduledVariable) != ""
			res, err := backup.Run(ctx, env, opts)
			return newOutput(res, func(w io.Writer) { printer.WriteBackupResult(w, res, given) }).OrError(err)
		}))
	f := cmd.Flags()
	f.StringVar(&opts.To, "to", "", "`file`, folder in which it gets a name, or s3://BUCKET/PREFIX")
	f.StringArrayVar(&opts.Lock.Recipients, "recipient", nil, "public `key` of age, or file with such keys; repeatable")
	f.StringVar(&opts.Lock.PassphraseFile, "passphrase-file", "", "`file` with a passphrase, - for stdin (default: ask for it)")
	f.BoolVar(&opts.Lock.Unencrypted, "unencrypted", false, "write all keys and secrets of the cluster in plain text")
	f.BoolVar(&opts.PerNode, "per-node", false, "write to a folder with the name of this node in the folder")
	f.IntVar(&opts.Keep, "keep", 0, "keep `N` backups of this cluster in the folder, remove older ones")
	addStoreFlags(cmd, &opts.Store)
	cmd.AddCommand(s.listBackupsCommand(), s.verifyBackupCommand())
	return cmd
}

func (s commandSet) listBackupsCommand() *cobra.Command {
	var store objectstore.Settings
	cmd := s.NewCommand("list FOLDER", exactlyOne("FOLDER"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			all, err := backup.List(ctx, env, args[0], store.WithEnvironment(os.Getenv))
			return newOutput(all, func(w io.Writer) { printer.WriteBackupList(w, all, args[0], store) }).OrError(err)
		}))
	addStoreFlags(cmd, &store)
	return cmd
}

func (s commandSet) verifyBackupCommand() *cobra.Command {
	var key backup.KeyFlags
	var store objectstore.Settings
	cmd := s.NewCommand("verify FILE", exactlyOne("FILE"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			s.prepareKeyFlags(&key)
			v, err := backup.Verify(ctx, env, args[0], key, store.WithEnvironment(os.Getenv))
			return newOutput(v, func(w io.Writer) { printer.WriteBackupVerification(w, v, store) }).OrError(err)
		}))
	addKeyFileFlags(cmd, &key)
	addStoreFlags(cmd, &store)
	return cmd
}

// addStoreFlags adds the flags of an object store. Its credentials are in the environment or in a file, because other users
// of a host can read arguments.
func addStoreFlags(cmd *cobra.Command, store *objectstore.Settings) {
	f := cmd.Flags()
	f.StringVar(&store.Endpoint, "s3-endpoint", "", "`URL` of the object store (default: AWS_ENDPOINT_URL, or AWS)")
	f.StringVar(&store.Region, "s3-region", "", "`region` of the bucket (default: AWS_REGION)")
	f.StringVar(&store.CAFile, "s3-ca-file", "", "PEM `file` with the store's authority (default: AWS_CA_BUNDLE)")
	f.StringVar(&store.CredentialsFile, "s3-credentials-file", "", "credentials `file` in AWS's format (default: AWS_ACCESS_KEY_ID …)")
}

// addKeyFileFlags adds the flags of a key that decrypts.
func addKeyFileFlags(cmd *cobra.Command, key *backup.KeyFlags) {
	cmd.Flags().StringVar(&key.IdentityFile, "identity-file", "", "`file` with the private key of age, - for stdin")
	cmd.Flags().StringVar(&key.PassphraseFile, "passphrase-file", "", "`file` with the passphrase, - for stdin")
	cmd.MarkFlagsMutuallyExclusive("identity-file", "passphrase-file")
}

// prepareKeyFlags gives the flags of a key the streams of this process.
func (s commandSet) prepareKeyFlags(k *backup.KeyFlags) {
	k.In, k.Secrets = s.In, s.secrets
	if in, ok := s.In.(*os.File); ok && isTerminal(in) && isTerminal(s.Err) {
		k.Ask = func(ctx context.Context, isNew bool) (string, error) { return s.askPassphrase(ctx, in, isNew) }
	}
}

// askPassphrase reads a passphrase from the terminal, which does not show it; twice if it is a new one.
func (s *runner) askPassphrase(ctx context.Context, terminal *os.File, isNew bool) (string, error) {
	const doing = "read the passphrase"
	read := func(question string) (line string, err error) {
		p := ui.SecretPrompt{In: terminal, Out: s.Err, Question: question, Hide: func() (func() error, error) { return action.HideInput(terminal) }}
		err = s.waitForAnswer(ctx, func() (err error) {
			line, err = p.Ask(ctx)
			return err
		})
		if err == nil && line == "" {
			err = errors.New("it is empty")
		}
		if err != nil && problem.ExitCode(err) != problem.ExitInterrupted {
			err = problem.New(problem.ExitUsage, doing, err, "type it, or give a file with --passphrase-file; nothing was changed")
		}
		return line, err
	}
	first, err := read("Passphrase of the backup")
	if err != nil || !isNew {
		return first, err
	}
	second, err := read("The same passphrase again")
	if err == nil && first != second {
		err = problem.New(problem.ExitUsage, doing, errors.New("the two are different"), "run the command again; nothing was changed")
	}
	return second, err
}
