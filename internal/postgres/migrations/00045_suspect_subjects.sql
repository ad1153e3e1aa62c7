-- +goose Up

-- What messages are about that may have been in hand when a process died: in how many processes in a row their handling was begun
-- and did not end. Messages about the same thing count once a process, which life names. This replaces the table suspects, whose
-- rows are of messages.
CREATE TABLE suspect_subjects (
    stage    text NOT NULL,
    about    uuid NOT NULL,
    tries    smallint NOT NULL DEFAULT 1,
    life     uuid NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stage, about)
);
CREATE INDEX suspect_subjects_begun ON suspect_subjects (begun_at);
