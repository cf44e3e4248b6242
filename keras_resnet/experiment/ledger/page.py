def page_of(*a):
    return P()


class P:
    def markdown(self):
        return "done"

    def content(self):
        return {}


def updated(*a):
    pass
