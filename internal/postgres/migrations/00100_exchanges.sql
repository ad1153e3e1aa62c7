-- +goose Up

-- How the request of an attempt went: the receiver's address, whether the connection was reused, and how long each step took, as
-- deliver/outcome packs it. The headers of the response are kept of attempts that failed and of tests, sealed as the response is.
ALTER TABLE deliveries ADD COLUMN exchange bytea, ADD COLUMN response_headers bytea;
ALTER TABLE attempts ADD COLUMN exchange bytea, ADD COLUMN response_headers bytea;
