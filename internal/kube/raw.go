package kube

import (
	"context"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxRawObjects is the number of objects that ListRaw returns at most.
const maxRawObjects = 5000

// metadataOnly is the type of a list of objects without spec, status and data.
const metadataOnly = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

// ListRaw returns the JSON of a collection of objects, such as "/api/v1/pods": at most 5000.
func (c *Client) ListRaw(ctx context.Context, path string) ([]byte, error) {
	return c.core.RESTClient().Get().AbsPath(path).Param("limit", strconv.Itoa(maxRawObjects)).SetHeader("Accept", "application/json").DoRaw(ctx)
}

// ListRawMetadata is ListRaw for the metadata of the objects only: the API server sends nothing else of
// them, so no data of Secrets is read.
func (c *Client) ListRawMetadata(ctx context.Context, path, selector string) ([]byte, error) {
	req := c.core.RESTClient().Get().AbsPath(path).Param("limit", strconv.Itoa(maxRawObjects)).SetHeader("Accept", metadataOnly)
	if selector != "" {
		req = req.Param("labelSelector", selector)
	}
	return req.DoRaw(ctx)
}

// GetRaw returns the JSON of an endpoint of the API server that is not a collection, such as "/version".
func (c *Client) GetRaw(ctx context.Context, path string) ([]byte, error) {
	return c.core.RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(ctx)
}

// APIResources returns the groups of the API and the kinds in them.
func (c *Client) APIResources() ([]*metav1.APIGroup, []*metav1.APIResourceList, error) {
	return c.discovery.ServerGroupsAndResources()
}
