// What is put together here follows the run.
