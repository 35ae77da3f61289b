"""A page about one compilation: every stage, whose value each instruction computes, its cost.

    python -m redcomp view "Exp(-SqDist(x, y))*b" "x=Vi(3)" "y=Vj(3)" "b=Vj(1)" --html page.html

The page is one file that loads nothing.  `page.html`, `page.css` and `page.js` are its template;
`redcomp.view.collect` gathers the data, which the script shows.
"""

from redcomp.view.page import View, view

__all__ = ["View", "view"]
