// Command kopia backs a folder up with kopia alone, to a new repository in a bucket of an S3 store, and prints how long that took
// in seconds. The benchmarks compare Velero with it. It is built with the kopia, and the versions of all modules, of the Velero in
// the payload (distro/velero/go.mod).
//
//	kopia ENDPOINT CA-FILE BUCKET FOLDER
//
// The credentials are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kopia/kopia/fs/localfs"
	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob/s3"
	"github.com/kopia/kopia/snapshot"
	"github.com/kopia/kopia/snapshot/policy"
	"github.com/kopia/kopia/snapshot/upload"
)

const password = "static-passw0rd" // that of Velero

func main() {
	took, err := run(context.Background(), os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot back up:", err)
		os.Exit(1)
	}
	fmt.Println(took.Seconds())
}

// run backs up, and returns the time from the open of the repository to its close.
func run(ctx context.Context, args []string) (time.Duration, error) {
	if len(args) != 4 {
		return 0, errors.New("usage: kopia ENDPOINT CA-FILE BUCKET FOLDER")
	}
	ca, err := os.ReadFile(args[1])
	if err != nil {
		return 0, err
	}
	config, err := newRepository(ctx, s3.Options{BucketName: args[2], Endpoint: args[0], RootCA: ca, Region: "us-east-1",
		AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	rep, err := repo.Open(ctx, config, password, nil)
	if err != nil {
		return 0, err
	}
	err = repo.WriteSession(ctx, rep, repo.WriteSessionOptions{Purpose: "benchmark"}, func(ctx context.Context, w repo.RepositoryWriter) error {
		source, err := localfs.Directory(args[3])
		if err != nil {
			return err
		}
		info := snapshot.SourceInfo{Host: "host", UserName: "user", Path: args[3]}
		tree, err := policy.TreeForSource(ctx, w, info)
		if err != nil {
			return err
		}
		manifest, err := upload.NewUploader(w).Upload(ctx, source, tree, info)
		if err != nil {
			return err
		}
		if manifest.IncompleteReason != "" || manifest.Stats.ErrorCount > 0 {
			return fmt.Errorf("%s, %d errors", manifest.IncompleteReason, manifest.Stats.ErrorCount)
		}
		_, err = snapshot.SaveSnapshot(ctx, w, manifest)
		return err
	})
	err = errors.Join(err, rep.Close(ctx))
	return time.Since(start), err
}

// newRepository creates a repository, and returns the file that says how to open it.
func newRepository(ctx context.Context, options s3.Options) (string, error) {
	dir, err := os.MkdirTemp("", "kopia")
	if err != nil {
		return "", err
	}
	config := filepath.Join(dir, "repository.config")
	store, err := s3.New(ctx, &options, true)
	if err != nil {
		return "", err
	}
	if err := repo.Initialize(ctx, store, nil, password); err != nil {
		return "", err
	}
	return config, repo.Connect(ctx, config, store, password, nil)
}
