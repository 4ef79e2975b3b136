package kots

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// PrometheusAddress is the parameter of the console with the URL from which it takes its graphs (KOTS 1.131.2,
// pkg/store/kotsstore/prometheus_store.go). The console's page for it, POST /api/v1/prometheus, sets it, too.
const PrometheusAddress = "PROMETHEUS_ADDRESS"

// Parameter returns the value of a parameter in the console's database; "" if it is not set.
func (k *Client) Parameter(ctx context.Context, name string) (string, error) {
	rows, err := k.queryDatabase(ctx, "/db/query", "SELECT value FROM kotsadm_params WHERE key = ?", name)
	if err != nil || len(rows) == 0 || len(rows[0]) == 0 {
		return "", err
	}
	return rows[0][0], nil
}

// SetParameter sets a parameter in the console's database, or deletes it if the value is empty.
func (k *Client) SetParameter(ctx context.Context, name, value string) error {
	statement := []string{"INSERT INTO kotsadm_params (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value", name, value}
	if value == "" {
		statement = []string{"DELETE FROM kotsadm_params WHERE key = ?", name}
	}
	_, err := k.queryDatabase(ctx, "/db/execute", statement...)
	return err
}

// queryDatabase sends one statement with its arguments to the database, and returns the rows that it has selected.
func (k *Client) queryDatabase(ctx context.Context, path string, statement ...string) (rows [][]string, err error) {
	body, err := json.Marshal([][]string{statement})
	if err != nil {
		return nil, err
	}
	resp, err := k.requestDatabase(ctx, http.MethodPost, path, bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, err
	}
	var reply struct {
		Results []struct {
			Values [][]string `json:"values"`
			Error  string     `json:"error"`
		} `json:"results"`
	}
	err = json.NewDecoder(resp.Body).Decode(&reply)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("the console's database: %w", err)
	}
	if len(reply.Results) != 1 || reply.Results[0].Error != "" {
		return nil, fmt.Errorf("the console's database has refused a statement: %+v", reply.Results)
	}
	return reply.Results[0].Values, nil
}
