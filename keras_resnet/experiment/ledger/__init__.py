"""The ledger of reproductions: own runs beside the paper's figures, and a verdict on its claims."""
