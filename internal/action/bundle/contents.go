package bundle

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// imagesHint is what a user does when a component's images cannot be found.
const imagesHint = "run this on linux with the program at hand, or pin a version that docs/reference/images.md lists"

// resolveContents returns the parts of the bundle for an Installer, in the order in which a starting
// host needs them. A component whose images no table of this build lists names them itself: the
// program comes from src.
func resolveContents(ctx context.Context, in *spec.Installer, src partSource) (build.Request, error) {
	req := build.Request{Name: in.Metadata.Name, HostFiles: []build.HostFile{{Name: "k0s", Version: in.Spec.K0s.Version}}, Platform: src.platform}
	if in.Spec.Kotsadm != nil {
		req.HostFiles = append(req.HostFiles, build.HostFile{Name: "kots", Version: in.Spec.Kotsadm.Version})
	}
	parts, err := addons.Resolve(in, "/") // images and charts do not depend on the data folder
	if err != nil {
		return req, err
	}
	defaults, err := k0s.KnownImages(in.Spec.K0s.Version)
	if err == nil && (defaults == nil || slices.ContainsFunc(parts, func(p addons.AddOn) bool { return unknownImages(p) != nil })) {
		err = src.checkStored(ctx, req, parts)
	}
	if err == nil && defaults == nil {
		defaults, err = askK0s(ctx, src, in.Spec.K0s.Version)
	}
	if err != nil {
		return req, err
	}
	refs, err := k0s.InstallerImages(in, defaults)
	if err != nil {
		return req, problem.New(problem.ExitConfig, "resolve the cluster's images", err, "fix spec.k0s.config in the Installer")
	}
	for _, p := range parts {
		if p.External {
			continue
		}
		if err := askAddOn(ctx, src, p); err != nil {
			return req, err
		}
		refs = append(refs, p.ImageRefs()...)
		req.Charts = append(req.Charts, build.Chart{Name: p.Chart.Name, Version: p.Chart.Version, Archive: p.Chart.Archive})
	}
	for _, ref := range src.addCharts(&req, refs) {
		if !slices.Contains(req.Images, ref) { // two add-ons can have the same image
			req.Images = append(req.Images, ref)
		}
	}
	return req, nil
}

// unknownImages returns the roles of the images of an add-on that only its own program knows, sorted.
func unknownImages(part addons.AddOn) (roles []string) {
	for _, role := range slices.Sorted(maps.Keys(part.Images)) {
		if part.Images[role] == "" && !part.External {
			roles = append(roles, role)
		}
	}
	return roles
}

// checkStored returns an error that names every part of req and every known image of parts that a folder
// lacks: before a program of it is asked, which may be one of them.
func (s partSource) checkStored(ctx context.Context, req build.Request, parts []addons.AddOn) error {
	if s.downloads != nil {
		return nil
	}
	req.Layout = s.layout
	for _, p := range parts {
		if p.External {
			continue
		}
		for _, role := range slices.Sorted(maps.Keys(p.Images)) {
			if ref := p.Images[role]; ref != "" {
				req.Images = append(req.Images, ref)
			}
		}
	}
	_, err := build.Select(ctx, req)
	return err
}

// askK0s returns the images in the default configuration of a k0s version, from that k0s itself.
func askK0s(ctx context.Context, src partSource, version string) (refs []string, err error) {
	err = src.withProgram(ctx, build.HostFile{Name: "k0s", Version: version}, func(p hostProgram) error {
		out, err := p.run(k0s.EmptyConfig, k0s.ListImagesArguments()...)
		if err == nil {
			refs, err = k0s.ParseImageList(out)
		}
		return err
	})
	if err != nil {
		return nil, problem.New(problem.ExitBundle, "find the images of k0s "+version, err, cmp.Or(problem.Hint(err), imagesHint))
	}
	return refs, nil
}

// checkK0sConfig lets the k0s of an Installer judge its configuration, if the types in this build are of
// another minor. It notes that a folder for another architecture has no k0s that runs here.
func checkK0sConfig(ctx context.Context, in *spec.Installer, src partSource, note func(string)) error {
	version := in.Spec.K0s.Version
	if !k0s.JudgesItself(version) {
		return nil
	}
	if src.downloads == nil && src.platform != "linux/"+runtime.GOARCH {
		note("the configuration of k0s " + version + " is not checked: the source has that program for " + src.platform + ", this machine is linux/" + runtime.GOARCH)
		return nil
	}
	config, err := k0s.RenderExample(in)
	if err == nil {
		err = src.withProgram(ctx, build.HostFile{Name: "k0s", Version: version}, func(p hostProgram) error {
			_, err := p.run(string(config), k0s.ValidateArguments()...)
			return err
		})
	}
	if err != nil {
		return problem.New(problem.ExitConfig, "let k0s "+version+" check its configuration", err, "fix spec.k0s.config in the Installer")
	}
	return nil
}

// askAddOn sets the images of an add-on that only its own program knows, from the manifests
// that KOTS's CLI writes for the console.
func askAddOn(ctx context.Context, src partSource, part addons.AddOn) error {
	unknown := unknownImages(part)
	if unknown == nil {
		return nil
	}
	err := src.withProgram(ctx, build.HostFile{Name: "kots", Version: part.Version}, func(p hostProgram) error {
		// The password is not used: the manifests are read and removed.
		_, err := p.run("", "admin-console", "generate-manifests", "--rootdir", p.dir, "--namespace", "default", "--with-minio=false", "--shared-password", "unused")
		if err != nil {
			return err
		}
		used, err := p.manifestImages()
		if err != nil {
			return err
		}
		for _, role := range unknown {
			i := slices.IndexFunc(used, func(ref string) bool { return repositoryName(ref) == role })
			if i < 0 {
				return fmt.Errorf("its manifests name no image %s", role)
			}
			part.Images[role] = fullReference(used[i])
		}
		return nil
	})
	if err != nil {
		return problem.New(problem.ExitBundle, "find the images of "+part.Title+" "+part.Version, err, cmp.Or(problem.Hint(err), imagesHint))
	}
	return nil
}

// fullReference returns a reference with its registry, which is Docker Hub if it names none.
func fullReference(ref string) string {
	if first, _, _ := strings.Cut(ref, "/"); strings.ContainsAny(first, ".:") {
		return ref
	}
	return "docker.io/" + ref
}

// repositoryName returns the last part of an image's name: rqlite for docker.io/kotsadm/rqlite:10.2.7.
func repositoryName(ref string) string {
	name, _, _ := strings.Cut(ref[strings.LastIndex(ref, "/")+1:], ":")
	return name
}
