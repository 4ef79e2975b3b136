package step

import "io"

// Counter is a reader that counts the bytes that are read from another one.
type Counter struct {
	io.Reader
	N      int64         // bytes until now
	Report func(n int64) // is called with N after each read; nil for none
}

// Read reads from the other reader.
func (c *Counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.N += int64(n)
	if c.Report != nil {
		c.Report(c.N)
	}
	return n, err
}
