"""Operations on TrainingJobs and data sets for the command line, the API and the web. They print nothing and raise the
typed errors of ``errors``."""
