package kots

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
)

// DeployedApp is an application that the console has deployed.
type DeployedApp struct {
	Slug     string
	Manifest string // its KOTS Application manifest, YAML; "" if it has none
	// Reason is why one of the objects in the manifest's statusInformers is not ready, or "".
	Reason string
	// Reports reports whether the console knows the state of any object of it.
	Reports bool
}

// deployedQuery selects the deployed version of each application: the console counts versions of an application for the
// cluster, and names the version of the vendor's release as parent (KOTS 1.131.2, pkg/store/kotsstore, GetCurrentParentSequence).
const deployedQuery = `SELECT app.slug, app_version.kots_app_spec, app_status.resource_states FROM app
 JOIN app_downstream ON app_downstream.app_id = app.id
 JOIN app_downstream_version ON app_downstream_version.app_id = app.id AND app_downstream_version.cluster_id = app_downstream.cluster_id
  AND app_downstream_version.sequence = app_downstream.current_sequence
 JOIN app_version ON app_version.app_id = app.id AND app_version.sequence = app_downstream_version.parent_sequence
 LEFT JOIN app_status ON app_status.app_id = app.id ORDER BY app.slug`

// maxDeployedSize is the maximum size in bytes of the database's answer.
const maxDeployedSize = 32 << 20

// DeployedApps returns the applications that the console has deployed, from its database.
func (k *Client) DeployedApps(ctx context.Context) ([]DeployedApp, error) {
	resp, err := k.requestDatabase(ctx, http.MethodGet, "/db/query?q="+url.QueryEscape(deployedQuery), nil, 0)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxDeployedSize+1))
	if err = errors.Join(err, resp.Body.Close()); err == nil && len(raw) > maxDeployedSize {
		err = fmt.Errorf("its answer is larger than %d bytes", maxDeployedSize)
	}
	if err != nil {
		return nil, fmt.Errorf("the console's database: %w", err)
	}
	return parseDeployedApps(raw)
}

// parseDeployedApps returns the applications in an answer of the database to deployedQuery.
func parseDeployedApps(raw []byte) (apps []DeployedApp, err error) {
	var answer struct {
		Results []struct {
			Error  string
			Values [][]*string
		}
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("the answer of the console's database: %w", err)
	}
	for _, r := range answer.Results {
		if r.Error != "" {
			return nil, errors.New("the console's database: " + r.Error)
		}
		for _, row := range r.Values {
			if len(row) != 3 || row[0] == nil {
				return nil, errors.New("the answer of the console's database does not have the requested columns")
			}
			app := DeployedApp{Slug: *row[0]}
			if row[1] != nil {
				app.Manifest = *row[1]
			}
			if row[2] != nil {
				if app.Reports, app.Reason, err = unreadyObject([]byte(*row[2])); err != nil {
					return nil, err
				}
			}
			apps = append(apps, app)
		}
	}
	return apps, nil
}

// objectStates are the states of an object that the console reports, the worst first (KOTS 1.131.2, pkg/appstate/types).
var objectStates = []string{"missing", "unavailable", "degraded", "updating", "ready"}

// unreadyObject returns which object of an application is not ready, the worst first, or "". reports is false if the
// console watches no objects of it.
func unreadyObject(raw []byte) (reports bool, reason string, err error) {
	var objects []struct{ Kind, Namespace, Name, State string }
	if err := json.Unmarshal(raw, &objects); err != nil {
		return false, "", fmt.Errorf("the states of an application's objects: %w", err)
	}
	worst := len(objectStates) - 1
	for _, o := range objects {
		if i := slices.Index(objectStates, o.State); i >= 0 && i < worst {
			worst, reason = i, fmt.Sprintf("%s %s/%s is %s", o.Kind, o.Namespace, o.Name, o.State)
		}
	}
	return len(objects) > 0, reason, nil
}
