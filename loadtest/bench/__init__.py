"""``make bench``: what a prediction costs the service, beside the least that its parts cost alone, in one run.

    cases ──> parts (each alone, in this process) ┐
          ──> measure (servers, with clients of   ├──> floor ──> report, picture
              processes of their own)             ┘

docs/benchmarks.md says what each figure is.
"""
